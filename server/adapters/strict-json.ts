/**
 * A JSON reader for files that strangers bring: RFC 8259 and nothing more. Unlike `JSON.parse` it refuses an object
 * that holds a key twice (two readers could then see two different files), limits the nesting, and builds objects
 * without a prototype, so that a key such as `__proto__` is only a key.
 */

/** A JSON value as {@link parseStrictJson} returns it; objects have no prototype. */
export type JsonValue = null | boolean | number | string | JsonValue[] | JsonObject;

/** A JSON object without a prototype. */
export interface JsonObject {
  [key: string]: JsonValue;
}

const MAX_DEPTH = 64;
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const LITERALS: readonly (readonly [string, JsonValue])[] = [
  ['true', true],
  ['false', false],
  ['null', null],
];

/** True for a JSON object (not null, not an array). */
export function isJsonObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

class Reader {
  private at = 0;
  private readonly text: string;
  private upTo: string | undefined;
  private ended = false;

  constructor(text: string) {
    this.text = text;
  }

  /** @param upTo member of the outermost object after which reading ends; undefined = the whole text */
  document(upTo?: string): JsonValue {
    this.upTo = upTo;
    const value = this.value(0);
    if (this.ended) return value;
    this.space();
    if (this.at < this.text.length) this.fail('text after the end of the JSON value');
    return value;
  }

  private fail(what: string): never {
    throw new SyntaxError(`${what} at character ${this.at}`);
  }

  private space(): void {
    for (;;) {
      const c = this.text.charCodeAt(this.at);
      if (c !== 0x20 && c !== 0x0a && c !== 0x0d && c !== 0x09) return;
      this.at += 1;
    }
  }

  private value(depth: number): JsonValue {
    if (depth > MAX_DEPTH) this.fail(`more than ${MAX_DEPTH} levels of nesting`);
    this.space();
    const c = this.text[this.at];
    if (c === '{') return this.object(depth);
    if (c === '[') return this.array(depth);
    if (c === '"') return this.string();
    for (const [word, value] of LITERALS) {
      if (this.text.startsWith(word, this.at)) {
        this.at += word.length;
        return value;
      }
    }
    NUMBER.lastIndex = this.at;
    const match = NUMBER.exec(this.text);
    if (match === null) {
      return this.fail(
        c === undefined ? 'the JSON ends too early' : `${JSON.stringify(c)} is not the start of a value`,
      );
    }
    this.at += match[0].length;
    const number = Number(match[0]);
    if (!Number.isFinite(number)) this.fail(`the number ${match[0].slice(0, 40)} is out of range`);
    return number;
  }

  private string(): string {
    const start = this.at;
    this.at += 1;
    for (;;) {
      const c = this.text.charCodeAt(this.at);
      if (Number.isNaN(c)) this.fail('a string is not closed');
      if (c < 0x20) this.fail('a control character in a string');
      this.at += 1;
      if (c === 0x22) break;
      if (c === 0x5c) this.at += 1;
    }
    try {
      return JSON.parse(this.text.slice(start, this.at)) as string;
    } catch {
      return this.fail('a broken escape in a string that ends');
    }
  }

  private object(depth: number): JsonObject {
    const result = Object.create(null) as JsonObject;
    this.at += 1;
    this.space();
    if (this.text[this.at] === '}') {
      this.at += 1;
      return result;
    }
    for (;;) {
      this.space();
      if (this.text[this.at] !== '"') this.fail('expected a key in double quotes');
      const key = this.string();
      if (key in result) this.fail(`the key ${JSON.stringify(key.slice(0, 200))} stands twice, the second time`);
      this.space();
      if (this.text[this.at] !== ':') this.fail('expected ":" after a key');
      this.at += 1;
      result[key] = this.value(depth + 1);
      this.ended = depth === 0 && key === this.upTo;
      if (this.ended || this.closes('}')) return result;
    }
  }

  private array(depth: number): JsonValue[] {
    const result: JsonValue[] = [];
    this.at += 1;
    this.space();
    if (this.text[this.at] === ']') {
      this.at += 1;
      return result;
    }
    for (;;) {
      result.push(this.value(depth + 1));
      if (this.closes(']')) return result;
    }
  }

  /** After an element: true at the closing bracket, false after a comma. */
  private closes(bracket: '}' | ']'): boolean {
    this.space();
    const c = this.text[this.at];
    if (c !== ',' && c !== bracket) this.fail(`expected "," or "${bracket}"`);
    this.at += 1;
    return c === bracket;
  }
}

/**
 * Parses JSON text (bytes must be valid UTF-8).
 * @param upTo the only member of the outermost object that is wanted: nothing behind it is read
 * @throws SyntaxError that says what is wrong and where: bad syntax, a key that stands twice, nesting beyond 64.
 */
export function parseStrictJson(source: string | Uint8Array, upTo?: string): JsonValue {
  let text: string;
  if (typeof source === 'string') text = source;
  else {
    try {
      text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(source);
    } catch {
      throw new SyntaxError('not valid UTF-8');
    }
  }
  return new Reader(text).document(upTo);
}
