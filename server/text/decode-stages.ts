/**
 * The decoder steps of `tokenizer.json`, each as a stage that takes token texts one at a time. Their results, joined,
 * equal those of the Rust library `tokenizers` on the whole sequence; a stage holds back only what a later token can
 * still change.
 */
import { REPLACEMENT, Utf8Reader } from './utf8.js';

/** Text on its way through the stages, and the token (by position in the sequence) that it will count as. */
export interface Piece {
  readonly token: number;
  readonly text: string;
}

/** Hands a piece to the next stage. */
export type Emit = (piece: Piece) => void;

/** One decoder step. */
export interface DecodeStage {
  push(piece: Piece, emit: Emit): void;
  /** The sequence is over: emits what was held back. */
  end(emit: Emit): void;
  /** The earliest token of which text is held back; infinity when nothing is. */
  readonly heldFrom: number;
}

/** A stage that changes every piece by itself. */
export class MapStage implements DecodeStage {
  readonly heldFrom = Number.POSITIVE_INFINITY;
  #first = true;

  /** @param change gets the text and whether it is the sequence's first token */
  constructor(readonly change: (text: string, first: boolean) => string) {}

  push(piece: Piece, emit: Emit): void {
    emit({ token: piece.token, text: this.change(piece.text, this.#first) });
    this.#first = false;
  }

  end(): void {}
}

/** GPT-2's reversible table: printable bytes stand for themselves, the other 68 for code points from 256 on. */
const BYTE_OF_CHARACTER = new Map<string, number>();
for (let byte = 0, next = 256; byte < 256; byte++) {
  const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  BYTE_OF_CHARACTER.set(String.fromCharCode(printable ? byte : next++), byte);
}
const UTF8 = new TextEncoder();

/** `ByteLevel`: token characters are bytes; a token with any other character stands for its own UTF-8 bytes. */
export class ByteLevelStage implements DecodeStage {
  heldFrom = Number.POSITIVE_INFINITY;
  readonly #reader = new Utf8Reader();
  #last = 0;

  push(piece: Piece, emit: Emit): void {
    let text = '';
    for (const byte of bytesOf(piece.text)) {
      const pending = this.#reader.pending;
      const completed = this.#reader.push(byte);
      text += completed;
      // A new character begins in this token, at once or after the one before broke off.
      if (this.#reader.pending && (!pending || completed !== '')) this.heldFrom = piece.token;
    }
    if (!this.#reader.pending) this.heldFrom = Number.POSITIVE_INFINITY;
    this.#last = piece.token;
    emit({ token: piece.token, text });
  }

  end(emit: Emit): void {
    emit({ token: this.#last, text: this.#reader.end() });
    this.heldFrom = Number.POSITIVE_INFINITY;
  }
}

function bytesOf(text: string): Iterable<number> {
  const bytes: number[] = [];
  for (const character of text) {
    const byte = BYTE_OF_CHARACTER.get(character);
    if (byte === undefined) return UTF8.encode(text);
    bytes.push(byte);
  }
  return bytes;
}

/**
 * `ByteFallback`: a run of tokens like `<0xE2>` is text when all of its bytes together are UTF-8, and else one U+FFFD
 * for each byte. So a run is held back until it ends, or until it is broken for good.
 */
export class ByteFallbackStage implements DecodeStage {
  /** The run so far: what each of its tokens adds if the run turns out to be UTF-8. */
  #run: Piece[] = [];
  #reader = new Utf8Reader();

  get heldFrom(): number {
    return this.#run[0]?.token ?? Number.POSITIVE_INFINITY;
  }

  push(piece: Piece, emit: Emit): void {
    const byte = /^<0x([0-9A-Fa-f]{2})>$/.exec(piece.text);
    if (byte === null) {
      this.end(emit);
      emit(piece);
      return;
    }
    this.#run.push({ token: piece.token, text: this.#reader.push(Number.parseInt(byte[1]!, 16)) });
    if (this.#reader.broken) this.#release(emit);
  }

  end(emit: Emit): void {
    this.#reader.end();
    this.#release(emit);
    this.#reader = new Utf8Reader();
  }

  #release(emit: Emit): void {
    for (const { token, text } of this.#run) emit({ token, text: this.#reader.broken ? REPLACEMENT : text });
    this.#run = [];
  }
}

/** `Strip` of the fused text: at most `start` times the character at its beginning, at most `stop` times at its end. */
export class StripStage implements DecodeStage {
  heldFrom = Number.POSITIVE_INFINITY;
  #toStrip: number;
  #tail: Piece[] = [];

  constructor(
    readonly content: string,
    start: number,
    readonly stop: number,
  ) {
    this.#toStrip = start;
  }

  push(piece: Piece, emit: Emit): void {
    let text = piece.text;
    while (this.#toStrip > 0 && text !== '') {
      if (text.startsWith(this.content)) {
        text = text.slice(this.content.length);
        this.#toStrip--;
      } else this.#toStrip = 0;
    }
    if (this.stop === 0) {
      emit({ token: piece.token, text });
      return;
    }
    for (const character of text) {
      if (character !== this.content) for (const held of this.#tail.splice(0)) emit(held);
      else if (this.#tail.length === this.stop) emit(this.#tail.shift()!);
      if (character === this.content) this.#tail.push({ token: piece.token, text: character });
      else emit({ token: piece.token, text: character });
    }
    this.heldFrom = this.#tail[0]?.token ?? Number.POSITIVE_INFINITY;
  }

  end(): void {
    this.#tail = [];
    this.heldFrom = Number.POSITIVE_INFINITY;
  }
}

/** `BPEDecoder`: the end-of-word suffix is a space, except in the last token. */
export class WordSuffixStage implements DecodeStage {
  #held: Piece | undefined;

  constructor(readonly suffix: string) {}

  get heldFrom(): number {
    return this.#held?.token ?? Number.POSITIVE_INFINITY;
  }

  push(piece: Piece, emit: Emit): void {
    this.#release(' ', emit);
    this.#held = piece;
  }

  end(emit: Emit): void {
    this.#release('', emit);
  }

  #release(replacement: string, emit: Emit): void {
    if (this.#held === undefined) return;
    emit({ token: this.#held.token, text: this.#held.text.replaceAll(this.suffix, replacement) });
    this.#held = undefined;
  }
}
