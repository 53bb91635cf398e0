/**
 * Guesses of a row's next tokens from the row itself: where its newest tokens stood before, what followed them there may
 * follow again. Pure: token ids in, token ids out.
 */

/** Longest end of a row that is looked up; the longest one that was there before counts. */
export const LONGEST_MATCH = 3;
/** Shortest end of a row that is looked up. */
export const SHORTEST_MATCH = 2;

/** Token ids are below this, so that a number holds two of them. */
const ID_BOUND = 2 ** 21;

/** Tokens of one row, and where every run of two and of three of them stood last. */
export class TokenIndex {
  readonly #ids: number[] = [];
  /** A number for every pair of neighbours that was seen. */
  readonly #pairs = new Map<number, number>();
  /** Where what follows a pair, or a run of three, began when it was seen last; by the pair's number, by pair and id. */
  readonly #afterPair: number[] = [];
  readonly #afterThree = new Map<number, number>();
  /** The pair before the newest token. */
  #pair: number | undefined;
  /** Where what followed the row's end began before; undefined = the end is new. */
  #found: number | undefined;

  /** Tokens so far. */
  get length(): number {
    return this.#ids.length;
  }

  /** Appends a token. */
  push(id: number): void {
    const before = this.#pair;
    const last = this.#ids.at(-1);
    this.#ids.push(id);
    this.#found = undefined;
    if (last === undefined) return;
    const name = last * ID_BOUND + id;
    const pair = this.#pairs.get(name) ?? this.#pairs.size;
    this.#pairs.set(name, pair);
    this.#found = this.#afterPair[pair];
    this.#afterPair[pair] = this.length;
    this.#pair = pair;
    if (before === undefined) return;
    const three = before * ID_BOUND + id;
    this.#found = this.#afterThree.get(three) ?? this.#found;
    this.#afterThree.set(three, this.length);
  }

  /**
   * What followed the longest known end of the row where it stood last. A repetition that is still going on is continued
   * beyond the newest token.
   * @returns `most` ids, or none when the end is new
   */
  draft(most: number): number[] {
    const from = this.#found;
    const drafted: number[] = [];
    if (from === undefined) return drafted;
    for (let at = from; drafted.length < most; at += 1) drafted.push(this.#ids[at] ?? drafted[at - this.length]!);
    return drafted;
  }
}

/** Guesses of a row's first attempt. */
const FIRST_WIDTH = 4;
/** Most decode steps in a row without an attempt. */
const LONGEST_PAUSE = 64;

/** How many tokens to guess: more while guesses come true, none for a while after they did not. */
export class DraftWidth {
  readonly #most: number;
  #width: number;
  /** Steps without an attempt that are left, and how many there are after the next failure. */
  #pause = 0;
  #nextPause = 1;

  /** @param most guesses of one step, >= 1 */
  constructor(most: number) {
    this.#most = most;
    this.#width = Math.min(most, FIRST_WIDTH);
  }

  /** Called once for each decode step in which guesses could be tried: how many; 0 = none in this step. */
  next(): number {
    if (this.#pause === 0) return this.#width;
    this.#pause -= 1;
    return 0;
  }

  /** `tried` guesses were made, >= 1, and the first `accepted` of them came true. */
  told(tried: number, accepted: number): void {
    if (accepted === 0) {
      this.#width = 1;
      this.#pause = this.#nextPause;
      this.#nextPause = Math.min(LONGEST_PAUSE, this.#nextPause * 2);
      return;
    }
    this.#nextPause = 1;
    this.#width = Math.min(this.#most, accepted === tried ? Math.max(this.#width, 2 * tried) : accepted + 1);
  }
}
