/** One message of a chat, as the model's chat template takes it. */
export interface ChatMessage {
  readonly role: string;
  readonly content: string;
}

/** Renders chat messages to the text that the model was trained on. */
export interface ChatTemplate {
  /** False for models without a template; `render` then throws CHAT_TEMPLATE_FAILED. */
  readonly available: boolean;
  /** Throws CHAT_TEMPLATE_FAILED with the template's own message when it raises. */
  render(messages: readonly ChatMessage[], addGenerationPrompt: boolean): string;
}
