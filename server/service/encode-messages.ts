/** Messages between the main thread and the one that encodes long texts ({@link ./encode-worker.ts}). */
import type { AdapterText } from '../adapters/adapter-text.js';
import type { PlainError } from '../adapters/plain-error.js';
import type { ExtraToken } from '../text/added-tokens.js';
import type { ChatMessage } from '../text/chat-template.js';

/** A chat that a template makes a text of. */
export interface ChatText {
  readonly messages: readonly ChatMessage[];
  /** Name of the template; absent = the default. */
  readonly template?: string | undefined;
}

/** A text to encode. */
export interface EncodeJob {
  readonly source: string | ChatText;
  readonly addSpecialTokens: boolean;
  /** Tokens that are of use: a text with many more is not read to its end. Infinity = it is. */
  readonly most: number;
  /** How many of the last ids are wanted; undefined = all. */
  readonly last: number | undefined;
  /** What adapters add to the model's tokenizer, one list over the other. */
  readonly added: readonly (readonly ExtraToken[])[];
  /** The templates that adapters put over the model's, one over the other. */
  readonly over: readonly Pick<AdapterText, 'templates' | 'specialTokens'>[];
}

/** A text's ids, or the last ones of them. */
export interface EncodedText {
  readonly ids: readonly number[];
  /** How many there are in all, or were read. */
  readonly count: number;
  /** False: the text goes on. */
  readonly whole: boolean;
}

/** The thread's answer to a job. */
export type FromEncoder =
  | { readonly type: 'done'; readonly encoded: EncodedText }
  | { readonly type: 'failed'; readonly error: PlainError };

/** Encodes beside the thread that asks. The signal's reason is thrown when it aborts. */
export type EncodeAside = (job: EncodeJob, signal?: AbortSignal) => Promise<EncodedText>;
