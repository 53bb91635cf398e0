/** Chat templates that strangers bring: less time than a model's for reading and rendering, and no text without end. */
import { AppError } from '../errors.js';
import { OF_ADAPTER, within } from './bounded-template.js';
import type { ChatMessage, ChatTemplate } from './chat-template.js';
import { makeChatTemplate, quoted } from './jinja-template.js';

/** Longest rendered text, in characters. */
const MAX_TEXT = 16 * 1024 * 1024;

/**
 * The templates of an adapter over those of its model.
 * @param own by name; not empty
 * @param specialTokens as the templates see them
 */
export function overTemplates(
  model: ChatTemplate,
  own: readonly { readonly name: string; readonly template: string }[],
  specialTokens: Readonly<Record<string, string>>,
): ChatTemplate {
  return new AdapterTemplates(model, own, { ...model.specialTokens, ...specialTokens });
}

class AdapterTemplates implements ChatTemplate {
  readonly available = true;
  readonly names: readonly string[];
  readonly specialTokens: Readonly<Record<string, string>>;
  readonly #model: ChatTemplate;
  readonly #own: ReadonlySet<string>;
  readonly #templates: ChatTemplate;

  constructor(
    model: ChatTemplate,
    own: readonly { readonly name: string; readonly template: string }[],
    specialTokens: Readonly<Record<string, string>>,
  ) {
    this.#model = model;
    this.specialTokens = specialTokens;
    this.#own = new Set(own.map(({ name }) => name));
    this.names = [...new Set([...this.#own, ...model.names])];
    // All of them together, as there may be many.
    this.#templates = within(OF_ADAPTER, () => makeChatTemplate([...own], specialTokens, 'its folder', OF_ADAPTER));
  }

  /** A template that only the model has is the model's; without a name the adapter's default, or its only one. */
  render(messages: readonly ChatMessage[], addGenerationPrompt: boolean, name?: string): string {
    if (name !== undefined && !this.#own.has(name)) {
      if (this.#model.names.includes(name)) return this.#model.render(messages, addGenerationPrompt, name);
      const none = `neither the adapter nor the model has a chat template ${JSON.stringify(name)}`;
      throw new AppError('CHAT_TEMPLATE_FAILED', `${none}; there is ${quoted(this.names)}`);
    }
    const text = this.#templates.render(messages, addGenerationPrompt, name);
    if (text.length <= MAX_TEXT) return text;
    throw new AppError(
      'CHAT_TEMPLATE_FAILED',
      `the adapter's chat template makes ${text.length} characters; the most is ${MAX_TEXT}`,
    );
  }
}
