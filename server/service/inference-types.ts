/** What a request for answers is, and what comes back: prompts, selections, tokens, receipts. */
import type { ChatMessage } from '../text/chat-template.js';
import type { GenerationParameters } from './generation-parameters.js';

/** One adapter of a row's selection and the weight its update is multiplied with (1 = as trained). */
export interface AdapterWeight {
  readonly name: string;
  readonly weight: number;
}

/** The adapters of one row: empty = the base model, several = the exact weighted sum of their updates. */
export type AdapterSelection = readonly AdapterWeight[];

export type { ChatMessage, GenerationParameters };

/** What one row generates from. */
export type Prompt =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'tokens'; readonly tokenIds: readonly number[] }
  | {
      readonly kind: 'chat';
      readonly messages: readonly ChatMessage[];
      /** Name of one of the model's chat templates; absent = its default. */
      readonly template?: string | undefined;
    };

/** One input of a request, with its own adapters and overrides. */
export interface PredictInput {
  readonly prompt: Prompt;
  /** Absent = the request's default selection. */
  readonly adapters?: AdapterSelection | undefined;
  /** Override the request's parameters field by field. */
  readonly parameters?: Partial<GenerationParameters> | undefined;
}

/** A request for answers; every sample of every input becomes one row. */
export interface PredictRequest {
  /** Absent = the only model served. */
  readonly model?: string | undefined;
  readonly inputs: readonly PredictInput[];
  /** Selection of the inputs that name none; absent = base. */
  readonly adapters?: AdapterSelection | undefined;
  readonly parameters?: Partial<GenerationParameters> | undefined;
}

/** Who asks, and how urgently: for logs, cancelation, and the order of the queue. */
export interface CallContext {
  readonly requestId: string;
  /** Aborts when the client goes away or its deadline passes; the rows are freed within a step. */
  readonly signal: AbortSignal;
  /** Who asks, for the log of changes: what the caller says of itself, else its address. Not authenticated. */
  readonly actor?: string | undefined;
  /** Rows of a higher priority go first; absent = 0. */
  readonly priority?: number | undefined;
  /** When the answer is wanted: milliseconds of `performance.timeOrigin + performance.now()`; absent = no matter when. */
  readonly deadline?: number | undefined;
}

/** One generated token, or one of the prompt. */
export interface TokenInfo {
  readonly id: number;
  /** The text this token adds; the texts of all tokens joined are the answer's text. Never splits a character. */
  readonly text: string;
  /** Natural log of the token's probability in the raw distribution; present when log-probabilities were asked for. */
  readonly logprob?: number | undefined;
  /** The best alternatives, best first. */
  readonly top?: readonly { readonly id: number; readonly text: string; readonly logprob: number }[] | undefined;
  /** True for end-of-sequence and other special tokens. */
  readonly special: boolean;
}

/** Why a row ended. */
export type FinishReason = 'eos' | 'stop' | 'length';

/** Proof of what answered: digests are of content, so equal digests mean equal weights. */
export interface Receipt {
  readonly model: string;
  /** SHA-256 based fingerprint of the base model's files, lower-case hex. */
  readonly baseFingerprint: string;
  /** In the order of the request; empty = base. */
  readonly adapters: readonly ReceiptAdapter[];
}

/** One adapter that answered. */
export interface ReceiptAdapter {
  /** As the request named it. */
  readonly name: string;
  /** Of the content that answered. */
  readonly digest: string;
  readonly weight: number;
  /** The adapter that the name led to, where the name is an alias. */
  readonly resolved?: string | undefined;
}

/** Token counts of one row. */
export interface Usage {
  readonly promptTokens: number;
  readonly completionTokens: number;
  /** Prompt tokens whose keys and values an earlier row had left behind. */
  readonly cachedTokens: number;
}

/** Where a row's time went, in milliseconds. */
export interface Timings {
  /** From submission to the first step that worked on the row. */
  readonly queueMs: number;
  /** From there to the first token. */
  readonly prefillMs: number;
  /** From the first token to the last. */
  readonly decodeMs: number;
}

/** The complete answer to one input. */
export interface PredictResult {
  /** Of the input. */
  readonly index: number;
  /** Which of the input's answers, from 0. */
  readonly sample: number;
  readonly text: string;
  /** All generated tokens, end-of-sequence included when it was generated. */
  readonly tokens: readonly TokenInfo[];
  /** The prompt's tokens, when their log-probabilities were asked for; the first has none. */
  readonly promptTokens?: readonly TokenInfo[] | undefined;
  readonly finishReason: FinishReason;
  /** The stop string that ended the row, if one did. */
  readonly stopString?: string | undefined;
  readonly usage: Usage;
  readonly timings: Timings;
  readonly receipt: Receipt;
  /** Seed that the row used. */
  readonly seed: number;
}

/** What a stream delivers: deltas of any row in the order they come, and one final event per row. */
export type PredictEvent =
  | {
      readonly type: 'delta';
      readonly index: number;
      readonly sample: number;
      readonly text: string;
      readonly tokens: readonly TokenInfo[];
      /** Of the prompt that the text begins with, where their log-probabilities were asked for. */
      readonly promptTokens?: readonly TokenInfo[] | undefined;
    }
  | { readonly type: 'final'; readonly index: number; readonly sample: number; readonly result: PredictResult };

/** What can be told of a request before anything of it is done. */
export interface RequestCheck {
  /**
   * Refuses what the answer would be refused for, as far as its prompts and adapters need not be read for that.
   * @param streamed true: it is to be answered by a stream
   * @throws AppError
   */
  check(request: PredictRequest, streamed: boolean): Promise<void>;
}

/** Answers. Both methods validate the whole request first: on a fault nothing is enqueued. */
export interface InferenceService {
  /** Waits for every row; results in the order of the inputs and of their samples. Throws AppError. */
  predict(request: PredictRequest, call: CallContext): Promise<readonly PredictResult[]>;
  /** Resolves once the request is accepted; ending the iteration early cancels the rows. Throws AppError. */
  stream(request: PredictRequest, call: CallContext): Promise<AsyncIterable<PredictEvent>>;
}
