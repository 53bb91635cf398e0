/** One message of a chat, as the model's chat template takes it. */
export interface ChatMessage {
  readonly role: string;
  readonly content: string;
}

/** Renders chat messages to the text that the model was trained on. */
export interface ChatTemplate {
  /** False for models without a template; `render` then throws CHAT_TEMPLATE_FAILED. */
  readonly available: boolean;
  /** Names of its templates; a single one without a name is `default`. */
  readonly names: readonly string[];
  /** Special tokens by their names, as templates see them: `bos_token`, `eos_token`, ... */
  readonly specialTokens: Readonly<Record<string, string>>;
  /**
   * @param name which one renders; absent = the one named `default`, or the only one
   * @throws AppError CHAT_TEMPLATE_FAILED with the template's own message when it raises, with the names there are when
   * none has the name
   */
  render(messages: readonly ChatMessage[], addGenerationPrompt: boolean, name?: string): string;
}
