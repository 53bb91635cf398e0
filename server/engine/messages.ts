/**
 * Messages between the main thread and the engine worker. The worker owns session, key/value store, scheduler and
 * sampler; what crosses is small: token ids, options, and adapter arrays (transferred, not copied).
 */
import type { BoundAdapter } from '../adapters/types.js';
import type { ErrorReason } from '../errors.js';
import type { KeptWeights, Unkept } from './converted-weights.js';

/** Sampling of one row, after defaults and validation. Ranges as in the service's GenerationParameters. */
export interface SamplingOptions {
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly repetitionPenalty: number;
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
  /** 1 or absent = off. */
  readonly typicalP?: number | undefined;
  /** Added to the logits of single ids; absent = nothing. */
  readonly logitBias?: ReadonlyMap<number, number> | undefined;
  /** Unsigned 32-bit seed of the row's generator. */
  readonly seed: number;
  /** undefined = no log-probabilities; n = the chosen token's and the n best. */
  readonly logprobs: number | undefined;
}

/** A row to generate. */
export interface RowRequest {
  /** Unique in the process. */
  readonly id: number;
  readonly promptIds: readonly number[];
  /** Empty = base. Every digest must have been loaded with `load` before. */
  readonly selection: readonly { readonly digest: string; readonly weight: number }[];
  readonly sampling: SamplingOptions;
  readonly maxNewTokens: number;
  /** Ids that end the row: requested stop ids, and unless they are ignored the end-of-sequence ids. */
  readonly endIds: readonly number[];
  /** Absent = none; n = the log-probability of every prompt token and of the n best in its place. */
  readonly promptLogprobs?: number | undefined;
  /** Rows of a higher priority go first; absent = 0. */
  readonly priority?: number | undefined;
  /** When the answer is wanted, on the clock of `submittedAt`; absent = no matter when. */
  readonly deadline?: number | undefined;
  /** `performance.timeOrigin + performance.now()` milliseconds at submission, comparable across threads. */
  readonly submittedAt: number;
}

/** Main thread to engine. */
export type ToEngine =
  | { readonly type: 'submit'; readonly rows: readonly RowRequest[] }
  | { readonly type: 'cancel'; readonly ids: readonly number[] }
  | { readonly type: 'load'; readonly adapter: BoundAdapter }
  /** Sent only when no row of the main thread holds a lease on it any more. */
  | { readonly type: 'unload'; readonly digest: string }
  /** Asks for a copy of a loaded adapter, for another engine thread. */
  | { readonly type: 'give'; readonly digest: string }
  /** From now on other engine threads work beside this one. */
  | { readonly type: 'beside' }
  /** The cache has the packed form of the weights now: further sessions share it. */
  | { readonly type: 'packed' }
  | { readonly type: 'close' };

/** One generated token of one row. */
export interface TokenEvent {
  readonly id: number;
  readonly token: number;
  readonly logprob?: number | undefined;
  readonly top?: readonly { readonly id: number; readonly logprob: number }[] | undefined;
}

/** Log-probabilities of a stretch of a row's prompt; the stretches of a row come in order, before its first token. */
export interface PromptEvent {
  readonly id: number;
  /** Position of the first token that is scored here; the prompt's first token never is. */
  readonly from: number;
  /** Natural logs, one per token. */
  readonly logprobs: Float64Array;
  /** The best tokens in each place, best first: [tokens, alternatives], and their natural logs. */
  readonly topIds: Int32Array;
  readonly topLogprobs: Float64Array;
}

/** A row ended; no event follows for its id. */
export interface EndEvent {
  readonly id: number;
  /** 'end-id': the last token event was one of `endIds`. 'error': `message` says what happened. */
  readonly cause: 'end-id' | 'length' | 'cancelled' | 'error';
  readonly message?: string | undefined;
  /** 'error' only: what the request is answered with; absent = a fault of the server. */
  readonly reason?: ErrorReason | undefined;
  /** Prompt tokens whose keys and values came from the prefix cache. */
  readonly cachedTokens: number;
  readonly queueMs: number;
  readonly prefillMs: number;
  readonly decodeMs: number;
}

/** Numbers for metrics, sent with every step. */
export interface EngineStats {
  readonly runningRows: number;
  readonly waitingRows: number;
  readonly prefillSteps: number;
  readonly decodeSteps: number;
  readonly prefillTokens: number;
  readonly decodeTokens: number;
  /** Prompt tokens that came from the prefix cache instead. */
  readonly cachedTokens: number;
  /** Times that a row lost its memory to others and was computed again later. */
  readonly preemptions: number;
  /** Tokens that look-up guessed: those that rows got by it, and those computed for nothing. */
  readonly guessesAccepted: number;
  readonly guessesRejected: number;
  readonly kvBytes: number;
  /** Bytes of the prefix cache; not part of `kvBytes`. */
  readonly prefixBytes: number;
  readonly adaptersLoaded: number;
  readonly adapterBytes: number;
  /** How often the device was opened anew after it had failed. */
  readonly deviceRestarts?: number | undefined;
  /** Total milliseconds inside session.run, and outside of it within steps. */
  readonly runMs: number;
  readonly overheadMs: number;
}

/** What one step did. */
export interface StepOutput {
  readonly prompts: PromptEvent[];
  readonly tokens: TokenEvent[];
  readonly ends: EndEvent[];
}

/** Engine to main thread. */
export type FromEngine =
  /**
   * `ready`: the model can be asked; `moved`: it goes on elsewhere. `device`: where it runs now, and `why` there;
   * `maxPositions`: what the budget of keys and values holds there; `kept`: what the weights are mapped from;
   * `unkept`: converted weights that their folder did not take.
   */
  | {
      readonly type: 'ready' | 'moved';
      readonly device: string;
      readonly why: string;
      readonly maxPositions: number;
      readonly kept: KeptWeights | undefined;
      readonly unkept: Unkept | undefined;
    }
  | { readonly type: 'failed'; readonly message: string }
  /** Everything one step produced, in one message. */
  | ({ readonly type: 'step'; readonly stats: EngineStats } & StepOutput)
  | {
      readonly type: 'loaded';
      readonly digest: string;
      readonly error?: string | undefined;
      /** With `error`: what it is answered with; absent = the backend cannot apply the adapter. */
      readonly reason?: ErrorReason | undefined;
      readonly stats: EngineStats;
    }
  | { readonly type: 'unloaded'; readonly digest: string; readonly stats: EngineStats }
  /** Answers 'give'; undefined = it is not loaded any more. */
  | { readonly type: 'given'; readonly digest: string; readonly adapter: BoundAdapter | undefined };
