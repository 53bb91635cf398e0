/** UTF-8 byte by byte, with the replacement rules of the WHATWG Encoding Standard (one U+FFFD per maximal subpart). */

/** What stands for bytes that are no character. */
export const REPLACEMENT = '\ufffd';

/** Takes bytes one at a time. */
export class Utf8Reader {
  #codePoint = 0;
  #missing = 0;
  #lower = 0x80;
  #upper = 0xbf;

  /** True once any bytes were no character. */
  broken = false;

  /** True in the middle of a character. */
  get pending(): boolean {
    return this.#missing > 0;
  }

  /**
   * The text this byte completes: '' in the middle of a character, and U+FFFD (before anything else) where it shows
   * that the bytes before it, or it itself, are no character.
   */
  push(byte: number): string {
    if (this.#missing > 0) {
      if (byte < this.#lower || byte > this.#upper) {
        this.#missing = 0;
        this.broken = true;
        return REPLACEMENT + this.push(byte);
      }
      this.#lower = 0x80;
      this.#upper = 0xbf;
      this.#codePoint = (this.#codePoint << 6) | (byte & 0x3f);
      this.#missing--;
      return this.#missing > 0 ? '' : String.fromCodePoint(this.#codePoint);
    }
    if (byte < 0x80) return String.fromCharCode(byte);
    // Table 3-7 of the Unicode Standard: the second byte's range excludes overlong forms, surrogates and > U+10FFFF.
    this.#lower = byte === 0xe0 ? 0xa0 : byte === 0xf0 ? 0x90 : 0x80;
    this.#upper = byte === 0xed ? 0x9f : byte === 0xf4 ? 0x8f : 0xbf;
    if (byte >= 0xc2 && byte <= 0xdf) return this.#begin(byte & 0x1f, 1);
    if (byte >= 0xe0 && byte <= 0xef) return this.#begin(byte & 0x0f, 2);
    if (byte >= 0xf0 && byte <= 0xf4) return this.#begin(byte & 0x07, 3);
    this.broken = true;
    return REPLACEMENT;
  }

  /** U+FFFD when the bytes ended inside a character, else ''. */
  end(): string {
    if (this.#missing === 0) return '';
    this.#missing = 0;
    this.broken = true;
    return REPLACEMENT;
  }

  #begin(bits: number, missing: number): string {
    this.#codePoint = bits;
    this.#missing = missing;
    return '';
  }
}
