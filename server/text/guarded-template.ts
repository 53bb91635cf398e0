/**
 * Chat templates that strangers bring: a template is a program, and one that runs for ever would stop the thread that
 * serves everybody. Reading and rendering end after a time, and long texts are refused.
 */
import { createContext, Script } from 'node:vm';
import { AppError } from '../errors.js';
import type { ChatMessage, ChatTemplate } from './chat-template.js';
import { makeChatTemplate } from './jinja-template.js';

/** Most time that reading or rendering takes, in milliseconds: a thousand times what a usual template needs. */
const LIMIT_MS = 500;
/** Longest rendered text, in characters. */
const MAX_TEXT = 16 * 1024 * 1024;

const CALL = new Script('work()');
const room: { work: () => unknown } = { work: () => undefined };
const context = createContext(room);

/** Runs `work` to its end, or throws once the time is over. */
function within<T>(work: () => T): T {
  room.work = work;
  try {
    return CALL.runInContext(context, { timeout: LIMIT_MS }) as T;
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code !== 'ERR_SCRIPT_EXECUTION_TIMEOUT') throw thrown;
    throw new AppError('CHAT_TEMPLATE_FAILED', `the adapter's chat template takes more than ${LIMIT_MS} ms`);
  }
}

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
    this.#templates = within(() => makeChatTemplate([...own], specialTokens, "the adapter's folder"));
  }

  /** A template that only the model has is the model's; without a name the adapter's default, or its only one. */
  render(messages: readonly ChatMessage[], addGenerationPrompt: boolean, name?: string): string {
    if (name !== undefined && !this.#own.has(name)) return this.#model.render(messages, addGenerationPrompt, name);
    const text = within(() => this.#templates.render(messages, addGenerationPrompt, name));
    if (text.length <= MAX_TEXT) return text;
    throw new AppError('CHAT_TEMPLATE_FAILED', `the adapter's chat template makes ${text.length} characters`);
  }
}
