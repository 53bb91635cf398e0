/**
 * What the tokenizer files beside an adapter say about the texts of its rows: tokens that it adds, the token that ends a
 * sequence, chat templates. The rest of that tokenizer is the base's.
 */
import { join } from 'node:path';
import { AppError } from '../errors.js';
import { fileCalls } from './file-calls.js';
import { readInside } from './source.js';
import { isJsonObject, type JsonObject, type JsonValue, parseStrictJson } from './strict-json.js';

/** Longest tokenizer file that is read: that of a vocabulary of some 250,000 tokens. */
const MAX_FILE_BYTES = 64 * 1024 * 1024;
const MAX_TEMPLATE_BYTES = 1024 * 1024;
const MAX_TEMPLATES = 32;
const MAX_TOKENS = 65_536;
const MAX_CONTENT = 1000;

const TEMPLATE_FILE = 'chat_template.jinja';
const MORE_TEMPLATES = 'additional_chat_templates';
const DEFAULT = 'default';

/** A token that is looked for in a text before the text is split into others. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  /** True: adds no text to an answer. */
  readonly special: boolean;
}

/** What comes with an adapter beside its weights; part of its digest. */
export interface AdapterText {
  /** `added_tokens` of its tokenizer, those of the base among them, by ascending id. */
  readonly tokens: readonly AddedToken[];
  /** Its tokenizer's end of a sequence. */
  readonly endToken?: string | undefined;
  /** Its chat templates; one without a name is called `default`. */
  readonly templates: readonly { readonly name: string; readonly template: string }[];
  /** Special tokens by their names (`bos_token`, ...), as its templates see them. */
  readonly specialTokens: Readonly<Record<string, string>>;
}

async function exists(path: string): Promise<boolean> {
  return (await fileCalls().find(path)) !== undefined;
}

/** @param upTo the only member that is wanted: what follows it is not read */
async function readObject(
  folder: string,
  name: string,
  roots: readonly string[],
  upTo?: string,
): Promise<JsonObject | undefined> {
  if (!(await exists(join(folder, name)))) return undefined;
  const fail = (what: string) => new AppError('ADAPTER_INVALID', `${name}: ${what}`);
  const text = await readInside(folder, name, roots, MAX_FILE_BYTES);
  let root: JsonValue;
  try {
    root = parseStrictJson(text, upTo);
  } catch (error) {
    throw fail(`not valid JSON: ${(error as Error).message}`);
  }
  if (!isJsonObject(root)) throw fail('not a JSON object');
  return root;
}

/**
 * Reads the tokenizer files of an adapter's folder as far as they count; undefined where there are none.
 * @param size ids that the adapter knows: tokens beyond are no tokens of its vocabulary
 * @throws AppError ADAPTER_INVALID naming the file and the entry; ADAPTER_SOURCE_FORBIDDEN
 */
export async function readAdapterText(
  folder: string,
  roots: readonly string[],
  size: number,
): Promise<AdapterText | undefined> {
  const config = await readObject(folder, 'tokenizer_config.json', roots);
  const tokenizer = await readObject(folder, 'tokenizer.json', roots, 'added_tokens');
  const templates = await readTemplates(folder, roots, config?.chat_template);
  if (config === undefined && tokenizer === undefined && templates.length === 0) return undefined;
  const specialTokens = namedTokens(config);
  return {
    tokens: readTokens(tokenizer?.added_tokens, size),
    endToken: specialTokens.eos_token,
    templates,
    specialTokens,
  };
}

function readTokens(list: JsonValue | undefined, size: number): AddedToken[] {
  if (list === undefined || list === null) return [];
  const fail = (what: string) => new AppError('ADAPTER_INVALID', `tokenizer.json: added_tokens${what}`);
  if (!Array.isArray(list)) throw fail(' is not a list');
  if (list.length > MAX_TOKENS) throw fail(` has ${list.length} entries; at most ${MAX_TOKENS} are read`);
  const tokens: AddedToken[] = [];
  for (const [index, entry] of list.entries()) {
    const { id, content, special } = isJsonObject(entry) ? entry : {};
    const named = typeof content === 'string' && content !== '' && content.length <= MAX_CONTENT;
    if (!named || !Number.isSafeInteger(id) || (id as number) < 0) {
      throw fail(`[${index}] is not {"id": number, "content": text of 1 to ${MAX_CONTENT} characters}`);
    }
    if ((id as number) < size) tokens.push({ id: id as number, content, special: special === true });
  }
  return tokens.sort((a, b) => a.id - b.id);
}

/** Special tokens of `tokenizer_config.json`, each a text or an object with a `content`. */
function namedTokens(config: JsonObject | undefined): Record<string, string> {
  const tokens: Record<string, string> = {};
  for (const [key, value] of Object.entries(config ?? {})) {
    const content = isJsonObject(value) ? value.content : value;
    if (/^[a-z]+_token$/.test(key) && typeof content === 'string' && content.length <= MAX_CONTENT) {
      tokens[key] = content;
    }
  }
  return tokens;
}

/** Templates in files of their own, as transformers writes them now, else those of the config. */
async function readTemplates(
  folder: string,
  roots: readonly string[],
  ofConfig: JsonValue | undefined,
): Promise<AdapterText['templates']> {
  const read = async (name: string) => {
    const bytes = await readInside(folder, name, roots, MAX_TEMPLATE_BYTES);
    return new TextDecoder('utf-8').decode(bytes);
  };
  const place = join(folder, MORE_TEMPLATES);
  const more = (await exists(place))
    ? await fileCalls()
        .readdir(place)
        .catch(() => [])
    : [];
  const names = more.filter((name) => name.endsWith('.jinja')).sort();
  if (names.length > MAX_TEMPLATES) throw tooMany(MORE_TEMPLATES, names.length);
  const templates: { name: string; template: string }[] = [];
  if (await exists(join(folder, TEMPLATE_FILE))) templates.push({ name: DEFAULT, template: await read(TEMPLATE_FILE) });
  for (const name of names) {
    templates.push({ name: name.slice(0, -'.jinja'.length), template: await read(join(MORE_TEMPLATES, name)) });
  }
  return templates.length > 0 ? templates : templatesOf(ofConfig);
}

function templatesOf(value: JsonValue | undefined): AdapterText['templates'] {
  if (value === undefined || value === null) return [];
  if (typeof value === 'string') return [{ name: DEFAULT, template: value }];
  const list = Array.isArray(value) ? value : [null];
  if (list.length > MAX_TEMPLATES) throw tooMany('tokenizer_config.json', list.length);
  const names = new Set<string>();
  return list.map((entry) => {
    const { name, template } = isJsonObject(entry) ? entry : {};
    if (typeof name === 'string' && typeof template === 'string' && !names.has(name)) {
      names.add(name);
      return { name, template };
    }
    const right = 'a template or a list of {"name", "template"} with different names would be right';
    throw new AppError('ADAPTER_INVALID', `tokenizer_config.json: chat_template: ${right}`);
  });
}

const tooMany = (place: string, count: number) =>
  new AppError('ADAPTER_INVALID', `${place}: ${count} chat templates; at most ${MAX_TEMPLATES} are read`);
