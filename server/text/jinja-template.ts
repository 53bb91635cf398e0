/** The chat template of a Hugging Face model folder. */
import { Template } from '@huggingface/jinja';
import { AppError } from '../errors.js';
import type { ChatMessage, ChatTemplate } from './chat-template.js';
import { type JsonObject, namedSpecialTokens, readJsonObject, readTextFile } from './tokenizer-files.js';

const TEMPLATE_FILE = 'chat_template.jinja';
const CONFIG_FILE = 'tokenizer_config.json';

/**
 * Loads the chat template: `chat_template.jinja`, else `chat_template` of `tokenizer_config.json` (a template, or a list
 * of named ones of which `default` is taken). Templates are rendered as transformers does: with `trim_blocks` and
 * `lstrip_blocks`, the named special tokens, and `raise_exception`. A template that cannot be parsed does not keep the
 * model from serving text and tokens: `render` tells what is wrong with it.
 * @throws AppError MODEL_INVALID when a file cannot be read
 */
export async function loadChatTemplate(modelDir: string): Promise<ChatTemplate> {
  const [file, config, special] = await Promise.all([
    readTextFile(modelDir, TEMPLATE_FILE),
    readJsonObject(modelDir, CONFIG_FILE),
    readJsonObject(modelDir, 'special_tokens_map.json'),
  ]);
  if (file === undefined) return makeChatTemplate(config?.chat_template, namedSpecialTokens(config, special));
  return makeChatTemplate(file, namedSpecialTokens(config, special), TEMPLATE_FILE);
}

/**
 * Makes a template of what a model says.
 * @param value a template, a list of `{ name, template }`, or nothing
 * @param place where it stands, for messages
 * @throws AppError MODEL_INVALID for any other value
 */
export function makeChatTemplate(
  value: unknown,
  specialTokens: Readonly<Record<string, string>>,
  place = CONFIG_FILE,
): ChatTemplate {
  const source = templateOf(value);
  if (source === undefined) return unavailable('the model has no chat template; send text or token ids instead');
  let template: Template;
  try {
    template = new Template(source);
  } catch (cause) {
    return unavailable(`the chat template in ${place} cannot be read: ${(cause as Error).message}`);
  }
  return new JinjaTemplate(template, specialTokens);
}

/** A template is a string, or a list of `{ name, template }`. */
function templateOf(value: unknown): string | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === 'string') return value;
  const named = Array.isArray(value) ? (value as JsonObject[]) : [];
  const chosen = named.find((entry) => entry?.name === 'default') ?? (named.length === 1 ? named[0] : undefined);
  if (typeof chosen?.template === 'string') return chosen.template;
  throw new AppError(
    'MODEL_INVALID',
    `${CONFIG_FILE}: "chat_template" must be a template or a list of named ones with one named "default"`,
    { metadata: { file: CONFIG_FILE } },
  );
}

function unavailable(message: string): ChatTemplate {
  return {
    available: false,
    render() {
      throw new AppError('CHAT_TEMPLATE_FAILED', message);
    },
  };
}

class JinjaTemplate implements ChatTemplate {
  readonly available = true;
  readonly #template: Template;
  readonly #specialTokens: Readonly<Record<string, string>>;

  constructor(template: Template, specialTokens: Readonly<Record<string, string>>) {
    this.#template = template;
    this.#specialTokens = specialTokens;
  }

  render(messages: readonly ChatMessage[], addGenerationPrompt: boolean): string {
    try {
      return this.#template.render({
        ...this.#specialTokens,
        messages: messages.map(({ role, content }) => ({ role, content })),
        add_generation_prompt: addGenerationPrompt,
        tools: null,
        documents: null,
      });
    } catch (cause) {
      throw new AppError('CHAT_TEMPLATE_FAILED', `the chat template says: ${(cause as Error).message}`, { cause });
    }
  }
}
