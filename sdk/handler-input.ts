/** One item of a request's content. */
export interface ContentItem {
  /** `data` for a body; the name of a query parameter or form field. */
  readonly key: string;
  readonly value: Uint8Array;
}

/** What an {@link Input} is made of. */
export interface InputParts {
  /** Headers of the request, and the parts of its custom attributes. */
  readonly properties: Iterable<readonly [name: string, value: string]>;
  /** Query parameters, then the body or the fields of a form, in the order sent. */
  readonly content: readonly ContentItem[];
  /** True: of several places that name adapters the first counts (`--compat djl`); absent = they must agree. */
  readonly firstPlaceCounts?: boolean | undefined;
}

/** Says that the sender is at fault: 400, where the handler does not say otherwise. */
function badContent<E extends Error>(error: E): E & { readonly code: number } {
  return Object.assign(error, { code: 400 });
}

const UTF8 = new TextDecoder('utf-8', { fatal: true });

/** Names of properties that name adapters; the second one of content, too. */
const IDENTIFIER = 'x-amzn-sagemaker-adapter-identifier';
const ADAPTER = 'adapter';

/** Items that a batch may have: their keys have three digits. */
const MAX_BATCH = 1000;

/**
 * What a handler is called with: properties (headers and custom attributes, found by any letter case) and content
 * (query parameters, the body under `data`, fields of a form under their names).
 */
export class Input {
  readonly #properties: ReadonlyMap<string, string>;
  readonly #content: readonly ContentItem[];
  /** Values of the properties that name adapters: all of them, as a name may repeat. */
  readonly #adapters: readonly (readonly [name: string, value: string])[];
  readonly #firstPlaceCounts: boolean;

  constructor({ properties, content, firstPlaceCounts = false }: InputParts) {
    const all = Array.from(properties, ([name, value]) => [name.toLowerCase(), value] as const);
    this.#properties = new Map(all);
    this.#content = content;
    this.#adapters = all.filter(([name]) => name === IDENTIFIER || name === ADAPTER);
    this.#firstPlaceCounts = firstPlaceCounts;
  }

  /** All properties; names in lower case. */
  getProperties(): Record<string, string> {
    return Object.fromEntries(this.#properties);
  }

  /** A property by its name, whatever the letter case. */
  getProperty(name: string): string | undefined {
    return this.#properties.get(name.toLowerCase());
  }

  /** All content, in order; keys may repeat. */
  getContent(): readonly ContentItem[] {
    return this.#content;
  }

  /** True where the content has the key. */
  containsKey(key: string): boolean {
    return this.#content.some((item) => item.key === key);
  }

  /** True where there is no content. */
  isEmpty(): boolean {
    return this.#content.length === 0;
  }

  /** True where the input is several inputs in one: a property `batch_size` says how many. */
  isBatch(): boolean {
    return this.#properties.has('batch_size');
  }

  /**
   * The inputs of a batch, each with the properties and content whose names begin with `batch_000.`, `batch_001.` and so
   * on; an input that is no batch is a batch of itself. Properties without such a prefix belong to every input.
   * @throws RangeError where `batch_size` is no number from 1 to 1000, or a name lies outside of the batch
   */
  getBatches(): Input[] {
    if (!this.isBatch()) return [this];
    const given = this.getProperty('batch_size')!;
    const size = Number(given);
    if (!Number.isInteger(size) || size < 1 || size > MAX_BATCH) {
      throw new RangeError(`batch_size must be a whole number from 1 to ${MAX_BATCH}, not ${JSON.stringify(given)}`);
    }
    const shared: [string, string][] = [];
    const inputs = Array.from({ length: size }, () => ({
      properties: [] as [string, string][],
      content: [] as ContentItem[],
    }));
    const of = (name: string) => {
      const [, digits, rest] = /^batch_(\d{3})\.(.*)$/s.exec(name) ?? [];
      if (digits === undefined) return undefined;
      const input = inputs[Number(digits)];
      if (input === undefined) throw new RangeError(`${name} lies outside of a batch of ${size}`);
      return { input, name: rest! };
    };
    for (const [name, value] of this.#properties) {
      if (name === 'batch_size') continue;
      const own = of(name);
      if (own === undefined) shared.push([name, value]);
      else own.input.properties.push([own.name, value]);
    }
    for (const item of this.#content) {
      const own = of(item.key);
      own?.input.content.push({ key: own.name, value: item.value });
    }
    const firstPlaceCounts = this.#firstPlaceCounts;
    return inputs.map(
      ({ properties, content }) => new Input({ properties: [...shared, ...properties], content, firstPlaceCounts }),
    );
  }

  /**
   * @param key default: `data`, or where there is none the first item
   * @returns undefined where the content has no such key
   */
  getAsBytes(key?: string): Uint8Array | undefined {
    const found = this.#content.find((item) => item.key === (key ?? 'data'));
    return (found ?? (key === undefined ? this.#content[0] : undefined))?.value;
  }

  /** As {@link getAsBytes}, decoded. @throws TypeError where the bytes are not UTF-8; unless it is caught, the answer is 400 */
  getAsString(key?: string): string | undefined {
    const bytes = this.getAsBytes(key);
    return bytes === undefined ? undefined : textOf(bytes, key ?? 'data');
  }

  /** As {@link getAsString}, parsed. @throws SyntaxError where the text is not JSON; unless it is caught, the answer is 400 */
  getAsJson(key?: string): unknown {
    const text = this.getAsString(key);
    if (text === undefined) return undefined;
    try {
      return JSON.parse(text);
    } catch (error) {
      throw badContent(new SyntaxError(`${key ?? 'data'} is not JSON: ${(error as Error).message}`));
    }
  }

  /**
   * The adapter that the request names, wherever it does: Adapter-Identifier header, content `adapter`, custom
   * attribute; '' = the base model, undefined = nowhere. A name in a JSON body is the handler's to read.
   * @throws Error where these places name different adapters; unless it is caught, the answer is 400. With `--compat djl`
   * the first counts instead
   */
  getAdapter(): string | undefined {
    const properties = (name: string) => this.#adapters.filter(([one]) => one === name).map(([, value]) => value);
    const content = this.#content.filter(({ key }) => key === ADAPTER).map(({ value }) => textOf(value, ADAPTER));
    const [first, ...others] = [...properties(IDENTIFIER), ...content, ...properties(ADAPTER)];
    const other = this.#firstPlaceCounts
      ? undefined
      : others.find((one) => one.normalize('NFC') !== first!.normalize('NFC'));
    if (other === undefined) return first;
    const [one, two] = [first!, other].map((name) => (name === '' ? 'the base model' : JSON.stringify(name)));
    throw badContent(
      new Error(`the request asks for ${one} and for ${two}; name the adapter once, or the same everywhere`),
    );
  }
}

function textOf(bytes: Uint8Array, key: string): string {
  try {
    return UTF8.decode(bytes);
  } catch {
    throw badContent(new TypeError(`${key} is no UTF-8 text`));
  }
}
