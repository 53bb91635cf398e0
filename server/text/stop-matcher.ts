/** Where one of several stop strings ends first in a text that arrives in parts. */

/** A stop string that was found. */
export interface StopMatch {
  readonly stop: string;
  /** Where it begins, counted in UTF-16 units from the start of the text. */
  readonly start: number;
}

/**
 * Finds the stop string that is complete first; of several that end together, the one that begins first. How the text
 * is cut into parts makes no difference.
 */
export class StopMatcher {
  readonly #stops: readonly string[];
  /** The end of the text so far that may be the beginning of a stop string. */
  #open = '';
  #length = 0;

  /** @param stops none of them empty */
  constructor(stops: readonly string[]) {
    this.#stops = stops;
  }

  /** Length of the text that can no longer become part of a stop string. */
  get safeLength(): number {
    return this.#length - this.#open.length;
  }

  /** Takes the next part of the text. After a match the matcher is used up. */
  push(part: string): StopMatch | undefined {
    const offset = this.safeLength;
    const text = this.#open + part;
    this.#length += part.length;
    let found: { stop: string; at: number } | undefined;
    for (const stop of this.#stops) {
      const at = text.indexOf(stop);
      if (at < 0) continue;
      const end = at + stop.length;
      const best = found === undefined ? Number.POSITIVE_INFINITY : found.at + found.stop.length;
      if (end < best || (end === best && at < found!.at)) found = { stop, at };
    }
    if (found !== undefined) return { stop: found.stop, start: offset + found.at };
    this.#open = text.slice(text.length - this.#longestOpening(text));
    return undefined;
  }

  /** Length of the longest end of the text that begins a stop string. */
  #longestOpening(text: string): number {
    let longest = 0;
    for (const stop of this.#stops) {
      for (let length = Math.min(stop.length - 1, text.length); length > longest; length--) {
        if (text.endsWith(stop.slice(0, length))) longest = length;
      }
    }
    return longest;
  }
}
