/**
 * Matches Python regular expressions against module names in bounded time. Instead of backtracking, each part of the
 * pattern maps the set of positions where it may begin to the set where it may end, so that time grows with the
 * pattern's length times the square of the name's at worst; a step budget catches what is left.
 */
import { isWordCode, parsePythonRegex, type RegexNode } from './python-regex-syntax.js';

/** Steps (one position through one part) that one compiled pattern may take in all its matches. */
const MAX_STEPS = 100_000_000;

/** What the matches of one pattern have left of {@link MAX_STEPS}. */
interface Budget {
  steps: number;
}

/** A set of positions in the text, as one byte per position. */
type Positions = Uint8Array;

class Matcher {
  private readonly codes: readonly number[];
  private readonly budget: Budget;

  constructor(text: string, budget: Budget) {
    this.budget = budget;
    this.codes = Array.from(text, (c) => c.codePointAt(0)!);
  }

  get size(): number {
    return this.codes.length;
  }

  empty(): Positions {
    return new Uint8Array(this.codes.length + 1);
  }

  at(position: number): Positions {
    const set = this.empty();
    set[position] = 1;
    return set;
  }

  private isWord(position: number): boolean {
    const code = this.codes[position];
    return code !== undefined && isWordCode(code);
  }

  private keep(from: Positions, test: (position: number) => boolean): Positions {
    return from.map((present, position) => (present !== 0 && test(position) ? 1 : 0));
  }

  /** Where `node` may end when it begins at one of `from`. */
  ends(node: RegexNode, from: Positions): Positions {
    this.budget.steps -= from.length;
    if (this.budget.steps < 0) throw new RangeError('the pattern takes too long to match');
    const last = this.codes.length;
    switch (node.kind) {
      case 'char': {
        const result = this.empty();
        for (let i = 0; i < last; i += 1) if (from[i] !== 0 && node.test(this.codes[i]!)) result[i + 1] = 1;
        return result;
      }
      case 'empty':
        return from;
      case 'start':
        return this.keep(from, (i) => i === 0);
      case 'end':
        return this.keep(from, (i) => i === last);
      case 'boundary':
        return this.keep(from, (i) => this.isWord(i - 1) !== this.isWord(i));
      case 'notBoundary':
        return this.keep(from, (i) => this.isWord(i - 1) === this.isWord(i));
      case 'sequence': {
        let set = from;
        for (const part of node.parts) set = this.ends(part, set);
        return set;
      }
      case 'choice': {
        const result = this.empty();
        for (const part of node.parts) add(result, this.ends(part, from));
        return result;
      }
      case 'repeat':
        return this.repeat(node.part, node.min, node.max, from);
      case 'look':
        return this.keep(from, (i) => this.sees(node, i) !== node.negative);
    }
  }

  private sees(node: Extract<RegexNode, { kind: 'look' }>, position: number): boolean {
    if (!node.behind) return this.ends(node.part, this.at(position)).includes(1);
    for (let begin = position; begin >= 0; begin -= 1) {
      if (this.ends(node.part, this.at(begin))[position] !== 0) return true;
    }
    return false;
  }

  private repeat(part: RegexNode, min: number, max: number, from: Positions): Positions {
    let set = from;
    for (let count = 0; count < min && set.includes(1); count += 1) set = this.ends(part, set);
    const result = set.slice();
    if (part.kind === 'char' && max === Number.POSITIVE_INFINITY) {
      // The usual `.*`: one pass instead of one round per character.
      for (let i = 0; i < this.codes.length; i += 1) {
        if (result[i] !== 0 && part.test(this.codes[i]!)) result[i + 1] = 1;
      }
      return result;
    }
    for (let count = min; count < max && set.includes(1); count += 1) {
      set = this.ends(part, set);
      if (!add(result, set)) break;
    }
    return result;
  }
}

/** Adds `more` to `set`; false if nothing was new. */
function add(set: Positions, more: Positions): boolean {
  let grew = false;
  for (let i = 0; i < set.length; i += 1) {
    if (more[i] !== 0 && set[i] === 0) {
      set[i] = 1;
      grew = true;
    }
  }
  return grew;
}

/** A compiled Python regular expression. Matching throws a RangeError if the pattern needs too many steps. */
export interface PythonRegex {
  /** As `re.fullmatch(pattern, text) is not None`. */
  fullMatch(text: string): boolean;
  /** Ends of every match that begins at 0, ascending. */
  matchEnds(text: string): number[];
}

/** Compiles a Python regular expression. @throws SyntaxError that says what is wrong or not supported. */
export function compilePythonRegex(pattern: string): PythonRegex {
  const node = parsePythonRegex(pattern);
  const budget: Budget = { steps: MAX_STEPS };
  const run = (text: string): { ends: Positions; size: number } => {
    const matcher = new Matcher(text, budget);
    return { ends: matcher.ends(node, matcher.at(0)), size: matcher.size };
  };
  return {
    fullMatch(text) {
      const { ends, size } = run(text);
      return ends[size] !== 0;
    },
    matchEnds(text) {
      const { ends } = run(text);
      return Array.from(ends.keys()).filter((position) => ends[position] !== 0);
    },
  };
}
