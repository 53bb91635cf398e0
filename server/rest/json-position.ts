/** Finds where a text stops being JSON, for messages: the parser of Node 20 does not always tell. */

/** What is wrong and where; line and column count from 1. */
export interface JsonFault {
  readonly line: number;
  readonly column: number;
  readonly problem: string;
}

const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
// biome-ignore lint/suspicious/noControlCharactersInRegex: JSON forbids exactly these bare in a string
const STRING_PART = /[^"\\\u0000-\u001f]+|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})/y;
const WORD = /true|false|null/y;

class Fault extends Error {
  constructor(
    readonly at: number,
    message: string,
  ) {
    super(message);
  }
}

/** Scans a text that `JSON.parse` refused. Nesting is walked with a list, so that depth cannot exhaust the stack. */
export function locateJsonFault(text: string): JsonFault {
  try {
    scan(text);
    return { line: 1, column: 1, problem: 'not valid JSON' };
  } catch (thrown) {
    const fault = thrown as Fault;
    return { ...positionOf(text, fault.at), problem: fault.message };
  }
}

/** Line and column of an index into a text, both from 1. */
export function positionOf(text: string, at: number): { readonly line: number; readonly column: number } {
  const before = text.slice(0, at);
  return { line: before.split('\n').length, column: at - before.lastIndexOf('\n') };
}

type Expected = 'value' | 'value or ]' | 'key' | 'key or }' | 'comma' | 'end';

function scan(text: string): void {
  const open: ('[' | '{')[] = [];
  let expected: Expected = 'value';
  let at = 0;
  const skip = () => {
    while (at < text.length && ' \t\n\r'.includes(text[at]!)) at++;
  };
  const close = (bracket: '[' | '{') => {
    if (open.at(-1) !== bracket) throw new Fault(at, `unexpected ${quote(text, at)}`);
    open.pop();
    at++;
    expected = open.length > 0 ? 'comma' : 'end';
  };
  for (skip(); at < text.length; skip()) {
    const char = text[at]!;
    if (expected === 'end') throw new Fault(at, `unexpected ${quote(text, at)} after the end of the value`);
    if (expected === 'comma') {
      if (char === ',') {
        expected = open.at(-1) === '{' ? 'key' : 'value';
        at++;
      } else if (char === ']') close('[');
      else if (char === '}') close('{');
      else throw new Fault(at, `expected "," or "${open.at(-1) === '{' ? '}' : ']'}", found ${quote(text, at)}`);
    } else if (expected === 'key' || expected === 'key or }') {
      if (char === '}' && expected === 'key or }') close('{');
      else {
        if (char !== '"') throw new Fault(at, `expected a name in double quotes, found ${quote(text, at)}`);
        at = scanString(text, at);
        skip();
        if (text[at] !== ':') throw new Fault(at, `expected ":", found ${quote(text, at)}`);
        at++;
        expected = 'value';
      }
    } else if (char === ']' && expected === 'value or ]') close('[');
    else if (char === '[' || char === '{') {
      open.push(char);
      expected = char === '[' ? 'value or ]' : 'key or }';
      at++;
    } else {
      at = scanScalar(text, at);
      expected = open.length > 0 ? 'comma' : 'end';
    }
  }
  if (expected !== 'end') throw new Fault(at, text.trim() === '' ? 'the text is empty' : 'the text ends too early');
}

function scanScalar(text: string, at: number): number {
  if (text[at] === '"') return scanString(text, at);
  for (const pattern of [NUMBER, WORD]) {
    pattern.lastIndex = at;
    const match = pattern.exec(text);
    if (match) return at + match[0].length;
  }
  throw new Fault(at, `expected a value, found ${quote(text, at)}`);
}

function scanString(text: string, start: number): number {
  let at = start + 1;
  while (text[at] !== '"') {
    STRING_PART.lastIndex = at;
    const match = STRING_PART.exec(text);
    if (!match) {
      if (at >= text.length) throw new Fault(start, 'a string that begins here does not end');
      throw new Fault(at, `a string may not hold ${text[at] === '\\' ? 'this escape' : 'a bare control character'}`);
    }
    at += match[0].length;
  }
  return at + 1;
}

function quote(text: string, at: number): string {
  return at >= text.length ? 'the end of the text' : JSON.stringify(String.fromCodePoint(text.codePointAt(at)!));
}
