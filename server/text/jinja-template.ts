/** The chat templates of a Hugging Face model folder. */
import { Template } from '@huggingface/jinja';
import { AppError } from '../errors.js';
import { OF_MODEL, type TemplateBound, within } from './bounded-template.js';
import type { ChatMessage, ChatTemplate } from './chat-template.js';
import { FolderFiles, type TextFiles } from './text-files.js';
import { type JsonObject, namedSpecialTokens, readJsonObject } from './tokenizer-files.js';

const TEMPLATE_FILE = 'chat_template.jinja';
/** Folder of a model's named templates. */
const MORE_TEMPLATES = 'additional_chat_templates';
const DEFAULT = 'default';
/** What a message counts beside its text, in characters. */
const MESSAGE = 50;
const CONFIG_FILE = 'tokenizer_config.json';

/**
 * Loads the chat templates: `chat_template.jinja` with those of `additional_chat_templates/`, else `chat_template` of
 * `tokenizer_config.json` (a template, or a list of named ones). Templates are rendered as transformers does: with
 * `trim_blocks` and `lstrip_blocks`, the named special tokens, and `raise_exception`. A template that cannot be parsed does
 * not keep the model from serving text and tokens: `render` tells what is wrong with it.
 * @param model its folder, or the files of it
 * @throws AppError MODEL_INVALID when a file cannot be read
 */
export async function loadChatTemplate(model: string | TextFiles): Promise<ChatTemplate> {
  const files = typeof model === 'string' ? new FolderFiles(model) : model;
  const [file, more, config, special] = await Promise.all([
    files.read(TEMPLATE_FILE),
    readMore(files),
    readJsonObject(files, CONFIG_FILE),
    readJsonObject(files, 'special_tokens_map.json'),
  ]);
  const tokens = namedSpecialTokens(config, special);
  if (file === undefined && more.length === 0) return makeChatTemplate(config?.chat_template, tokens);
  if (more.length === 0) return makeChatTemplate(file, tokens, TEMPLATE_FILE);
  return makeChatTemplate(
    [...(file === undefined ? [] : [{ name: DEFAULT, template: file }]), ...more],
    tokens,
    TEMPLATE_FILE,
  );
}

/** Names of templates, for messages. */
export const quoted = (names: readonly string[]): string => names.map((one) => JSON.stringify(one)).join(', ');

/** Named templates in files of their own, as transformers saves several. */
async function readMore(files: TextFiles): Promise<{ name: string; template: string }[]> {
  const names = await files.list(MORE_TEMPLATES);
  const templates = names.filter((name) => name.endsWith('.jinja')).sort();
  return Promise.all(
    templates.map(async (name) => ({
      name: name.slice(0, -'.jinja'.length),
      template: (await files.read(`${MORE_TEMPLATES}/${name}`)) ?? '',
    })),
  );
}

/**
 * Makes the templates of what a model says.
 * @param value a template, a list of `{ name, template }`, or nothing
 * @param place where it stands, for messages
 * @param bound of the time that each of them may take
 * @throws AppError MODEL_INVALID for any other value
 */
export function makeChatTemplate(
  value: unknown,
  specialTokens: Readonly<Record<string, string>>,
  place = CONFIG_FILE,
  bound = OF_MODEL,
): ChatTemplate {
  return new JinjaTemplates(templatesOf(value), specialTokens, place, bound);
}

/** Templates by name; a single one without a name is the default. */
function templatesOf(value: unknown): Map<string, string> {
  if (value === undefined || value === null) return new Map();
  if (typeof value === 'string') return new Map([[DEFAULT, value]]);
  const templates = new Map<string, string>();
  for (const entry of Array.isArray(value) ? (value as (JsonObject | null)[]) : [null]) {
    if (typeof entry?.name !== 'string' || typeof entry.template !== 'string' || templates.has(entry.name)) {
      throw new AppError(
        'MODEL_INVALID',
        `${CONFIG_FILE}: "chat_template" must be a template or a list of {"name", "template"} with different names`,
        { metadata: { file: CONFIG_FILE } },
      );
    }
    templates.set(entry.name, entry.template);
  }
  return templates;
}

/** A template, and what it makes of roles. */
interface Readable {
  readonly template: Template;
  /** False: a developer's message, as OpenAI's newer clients call it, is one of the system to it. */
  readonly knowsDeveloper: boolean;
}

class JinjaTemplates implements ChatTemplate {
  readonly names: readonly string[];
  readonly specialTokens: Readonly<Record<string, string>>;
  /** By name; a text says why it cannot be used. */
  readonly #templates = new Map<string, Readable | string>();

  readonly #bound: TemplateBound;

  constructor(
    sources: ReadonlyMap<string, string>,
    specialTokens: Readonly<Record<string, string>>,
    place: string,
    bound: TemplateBound,
  ) {
    this.#bound = bound;
    this.specialTokens = specialTokens;
    this.names = [...sources.keys()];
    for (const [name, source] of sources) {
      try {
        const template = within(bound, () => new Template(source));
        this.#templates.set(name, { template, knowsDeveloper: source.includes('developer') });
      } catch (cause) {
        const which = sources.size > 1 ? ` ${JSON.stringify(name)}` : '';
        const why = (cause as Error).message;
        this.#templates.set(name, `the ${bound.owner}'s chat template${which} in ${place} cannot be read: ${why}`);
      }
    }
  }

  get available(): boolean {
    return [...this.#templates.values()].some((template) => typeof template !== 'string');
  }

  render(messages: readonly ChatMessage[], addGenerationPrompt: boolean, name?: string): string {
    const template = this.#find(name);
    const characters = messages.reduce((sum, { content }) => sum + content.length + MESSAGE, 0);
    return within(this.#bound, () => this.#render(template, messages, addGenerationPrompt), characters);
  }

  #render(
    { template, knowsDeveloper }: Readable,
    messages: readonly ChatMessage[],
    addGenerationPrompt: boolean,
  ): string {
    try {
      return template.render({
        ...this.specialTokens,
        messages: messages.map(({ role, content }) => ({
          role: role === 'developer' && !knowsDeveloper ? 'system' : role,
          content,
        })),
        add_generation_prompt: addGenerationPrompt,
        tools: null,
        documents: null,
      });
    } catch (cause) {
      throw new AppError(
        'CHAT_TEMPLATE_FAILED',
        `the ${this.#bound.owner}'s chat template says: ${(cause as Error).message}`,
        { cause },
      );
    }
  }

  #find(name: string | undefined): Readable {
    const { owner } = this.#bound;
    const { names: known } = this;
    if (known.length === 0) {
      throw new AppError('CHAT_TEMPLATE_FAILED', `the ${owner} has no chat template; send text or token ids instead`);
    }
    const found = this.#templates.get(name ?? (known.length === 1 ? known[0]! : DEFAULT));
    if (typeof found === 'object') return found;
    const none =
      name === undefined
        ? `the ${owner} has several chat templates and none is named "default"; name one of ${quoted(known)}`
        : `the ${owner} has no chat template ${JSON.stringify(name)}; it has ${quoted(known)}`;
    throw new AppError('CHAT_TEMPLATE_FAILED', found ?? none);
  }
}
