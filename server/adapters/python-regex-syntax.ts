/**
 * Parser for the regular expressions of PEFT configs, which are Python's. The tree it makes is matched by
 * {@link ./python-regex.ts} without backtracking, so that no pattern of a stranger can hang the server.
 */

/** A parsed regular expression. Greedy and lazy quantifiers are the same here: only whether it matches is asked. */
export type RegexNode =
  | { readonly kind: 'char'; readonly test: (code: number) => boolean }
  | { readonly kind: 'start' | 'end' | 'boundary' | 'notBoundary' | 'empty' }
  | { readonly kind: 'sequence' | 'choice'; readonly parts: readonly RegexNode[] }
  | { readonly kind: 'repeat'; readonly part: RegexNode; readonly min: number; readonly max: number }
  | { readonly kind: 'look'; readonly part: RegexNode; readonly behind: boolean; readonly negative: boolean };

type CharTest = (code: number) => boolean;

const MAX_PATTERN = 65_536;
const MAX_DEPTH = 100;
const MAX_REPEAT = 1000;

const isDigit: CharTest = (c) => c >= 48 && c <= 57;
const isWord: CharTest = (c) => /[\p{L}\p{N}_]/u.test(String.fromCodePoint(c));
const isSpace: CharTest = (c) => c === 32 || (c >= 9 && c <= 13) || (c >= 28 && c <= 31) || c === 0x85 || c === 0xa0;
const CLASSES: Readonly<Record<string, CharTest>> = {
  d: isDigit,
  D: (c) => !isDigit(c),
  w: isWord,
  W: (c) => !isWord(c),
  s: isSpace,
  S: (c) => !isSpace(c),
};
const CONTROLS: Readonly<Record<string, number>> = { n: 10, t: 9, r: 13, f: 12, v: 11, a: 7 };

/** True for a character that `\w` matches. */
export const isWordCode = isWord;

class Parser {
  private at = 0;
  private depth = 0;
  private ignoreCase = false;
  private readonly text: string;

  constructor(text: string) {
    this.text = text;
  }

  parse(): RegexNode {
    const node = this.choice();
    if (this.at < this.text.length) this.fail('unbalanced parenthesis');
    return node;
  }

  private fail(what: string): never {
    throw new SyntaxError(`${what} at character ${this.at}`);
  }

  private eat(token: string): boolean {
    if (!this.text.startsWith(token, this.at)) return false;
    this.at += token.length;
    return true;
  }

  private next(): string {
    const c = String.fromCodePoint(this.text.codePointAt(this.at) ?? this.fail('the pattern ends too early'));
    this.at += c.length;
    return c;
  }

  private choice(): RegexNode {
    this.depth += 1;
    if (this.depth > MAX_DEPTH) this.fail(`more than ${MAX_DEPTH} nested groups`);
    const outer = this.ignoreCase;
    const parts = [this.sequence()];
    while (this.eat('|')) parts.push(this.sequence());
    this.ignoreCase = outer;
    this.depth -= 1;
    return parts.length === 1 ? parts[0]! : { kind: 'choice', parts };
  }

  private sequence(): RegexNode {
    const parts: RegexNode[] = [];
    while (this.at < this.text.length && this.text[this.at] !== '|' && this.text[this.at] !== ')') {
      parts.push(this.quantified(this.atom()));
    }
    return { kind: 'sequence', parts };
  }

  private quantified(part: RegexNode): RegexNode {
    const start = this.at;
    let min = 0;
    let max = Number.POSITIVE_INFINITY;
    const braces = /\{(\d*)(,?)(\d*)\}/y;
    braces.lastIndex = this.at;
    const match = braces.exec(this.text);
    if (this.eat('*')) min = 0;
    else if (this.eat('+')) min = 1;
    else if (this.eat('?')) max = 1;
    else if (match !== null && (match[1] !== '' || match[2] !== '')) {
      this.at = braces.lastIndex;
      min = Number(match[1] || 0);
      if (match[2] === '') max = min;
      else if (match[3] !== '') max = Number(match[3]);
      if (max < min) this.fail('a repetition with its bounds reversed');
      if (min > MAX_REPEAT || (Number.isFinite(max) && max > MAX_REPEAT))
        this.fail(`more than ${MAX_REPEAT} repetitions`);
    } else return part;
    if (part.kind === 'start' || part.kind === 'look') {
      this.at = start;
      this.fail('a quantifier on something that has no width');
    }
    if (this.eat('+')) this.fail('a possessive quantifier, which is not supported,');
    this.eat('?');
    if (/[*+?]/.test(this.text[this.at] ?? '')) this.fail('a quantifier on a quantifier');
    return { kind: 'repeat', part, min, max };
  }

  private atom(): RegexNode {
    const c = this.next();
    if (c === '(') return this.group();
    if (c === '[') return this.set();
    if (c === '.') return { kind: 'char', test: (code) => code !== 10 };
    if (c === '^') return { kind: 'start' };
    if (c === '$') return { kind: 'end' };
    if (c === '\\') return this.escape();
    if (c === '*' || c === '+' || c === '?') this.fail('a quantifier with nothing before it');
    return this.literal(c.codePointAt(0)!);
  }

  private literal(code: number): RegexNode {
    return { kind: 'char', test: this.fold((c) => c === code) };
  }

  /** With the flag `i`, a character also matches in its other case. */
  private fold(test: CharTest): CharTest {
    if (!this.ignoreCase) return test;
    return (c) => {
      const char = String.fromCodePoint(c);
      return test(c) || test(char.toLowerCase().codePointAt(0)!) || test(char.toUpperCase().codePointAt(0)!);
    };
  }

  private escape(): RegexNode {
    const c = this.next();
    if (c === 'b') return { kind: 'boundary' };
    if (c === 'B') return { kind: 'notBoundary' };
    if (c === 'A') return { kind: 'start' };
    if (c === 'Z') return { kind: 'end' };
    const test = CLASSES[c];
    if (test !== undefined) return { kind: 'char', test };
    return this.literal(this.escapedCode(c));
  }

  private escapedCode(c: string): number {
    const digits = { x: 2, u: 4, U: 8 }[c];
    if (digits !== undefined) {
      const hex = this.text.slice(this.at, this.at + digits);
      if (!/^[0-9a-fA-F]+$/.test(hex) || hex.length !== digits) this.fail(`an incomplete escape \\${c}`);
      this.at += digits;
      const code = Number.parseInt(hex, 16);
      return code <= 0x10ffff ? code : this.fail('an escape beyond the last character');
    }
    if (CONTROLS[c] !== undefined) return CONTROLS[c];
    if (c === '0') return 0;
    if (/[1-9]/.test(c)) this.fail('a back-reference, which is not supported,');
    if (/[A-Za-z]/.test(c)) this.fail(`the unknown escape \\${c}`);
    return c.codePointAt(0)!;
  }

  private set(): RegexNode {
    const negative = this.eat('^');
    const tests: CharTest[] = [];
    for (let first = true; first || this.text[this.at] !== ']'; first = false) {
      const low = this.setItem();
      if (typeof low !== 'number') {
        tests.push(low);
        continue;
      }
      if (this.text[this.at] === '-' && this.text[this.at + 1] !== ']' && this.at + 1 < this.text.length) {
        this.at += 1;
        const high = this.setItem();
        if (typeof high !== 'number' || high < low) this.fail('a broken range in a set');
        tests.push((c) => c >= low && c <= high);
      } else tests.push((c) => c === low);
    }
    this.at += 1;
    const test = this.fold((c) => tests.some((one) => one(c)));
    return { kind: 'char', test: negative ? (c) => !test(c) : test };
  }

  private setItem(): number | CharTest {
    const c = this.next();
    if (c !== '\\') return c.codePointAt(0)!;
    const escaped = this.next();
    if (escaped === 'b') return 8;
    return CLASSES[escaped] ?? this.escapedCode(escaped);
  }

  private group(): RegexNode {
    if (!this.eat('?')) return this.close(this.choice());
    if (this.eat(':')) return this.close(this.choice());
    const name = /P<[A-Za-z_]\w*>/y;
    name.lastIndex = this.at;
    if (name.test(this.text)) {
      this.at = name.lastIndex;
      return this.close(this.choice());
    }
    if (this.eat('#')) {
      while (this.next() !== ')');
      return { kind: 'empty' };
    }
    for (const [token, behind, negative] of [
      ['=', false, false],
      ['!', false, true],
      ['<=', true, false],
      ['<!', true, true],
    ] as const) {
      if (this.eat(token)) return { kind: 'look', part: this.close(this.choice()), behind, negative };
    }
    return this.flags() ?? this.fail('a group of a kind that is not supported,');
  }

  /** Flags for a group, or at the start for the whole pattern. Only `i` matters: names have no line breaks and are ASCII. */
  private flags(): RegexNode | undefined {
    const syntax = /([aimsu]*)(?:-([ims]+))?([:)])/y;
    syntax.lastIndex = this.at;
    const match = syntax.exec(this.text);
    if (match === null) return undefined;
    const [, on = '', off = '', end] = match;
    if (end === ')' && (on === '' || off !== '')) return undefined;
    if (end === ')' && this.at !== 2) this.fail('global flags that are not at the start of the pattern');
    this.at = syntax.lastIndex;
    const outer = this.ignoreCase;
    if (on.includes('i')) this.ignoreCase = true;
    if (off.includes('i')) this.ignoreCase = false;
    if (end === ')') return { kind: 'empty' };
    const node = this.close(this.choice());
    this.ignoreCase = outer;
    return node;
  }

  private close(node: RegexNode): RegexNode {
    if (!this.eat(')')) this.fail('a group that is not closed');
    return node;
  }
}

/** Parses a Python regular expression. @throws SyntaxError that says what is wrong or not supported, and where. */
export function parsePythonRegex(pattern: string): RegexNode {
  if (pattern.length > MAX_PATTERN) throw new SyntaxError(`more than ${MAX_PATTERN} characters`);
  return new Parser(pattern).parse();
}
