/** Messages between the main thread and the thread of a custom handler. */
import type { InputParts } from '../../sdk/handler-input.js';
import type { PredictParams, PredictResult, StreamEvent } from '../../sdk/types.js';

/** A function of a handler. */
export type HandlerFunction = 'handle' | 'registerAdapter' | 'updateAdapter' | 'unregisterAdapter';

/** What the thread is started with. */
export interface HandlerWorkerOptions {
  readonly model: string;
  readonly modelDir: string;
  /** The handler's module, absolute. */
  readonly entryPoint: string;
  readonly properties: Readonly<Record<string, string>>;
  /** The adapter that the handler belongs to, and generates with; absent = it is the model's. */
  readonly adapter?: string | undefined;
}

/** Main thread to handler. Ids of calls and of generations are the sender's. */
export type ToHandler =
  | {
      readonly type: 'call';
      readonly id: number;
      readonly function: HandlerFunction;
      readonly input: InputParts;
      readonly requestId: string;
    }
  | { readonly type: 'cancel'; readonly id: number; readonly message: string }
  /** The reader of a stream took pieces: as many more may be sent. */
  | { readonly type: 'more'; readonly id: number; readonly pieces: number }
  | { readonly type: 'generated'; readonly generation: number; readonly results: readonly PredictResult[] }
  | { readonly type: 'step'; readonly generation: number; readonly event: StreamEvent | undefined }
  | {
      readonly type: 'refused';
      readonly generation: number;
      readonly message: string;
      readonly reason: string;
      readonly code: number;
    }
  | { readonly type: 'ping' };

/** Handler to main thread. */
export type FromHandler =
  | { readonly type: 'ready'; readonly functions: readonly HandlerFunction[] }
  | { readonly type: 'failed'; readonly message: string }
  | {
      readonly type: 'answer';
      readonly id: number;
      readonly code: number;
      readonly headers: Readonly<Record<string, string>>;
      /** A text, bytes, or `stream`: pieces follow. */
      readonly body: string | Uint8Array | { readonly stream: true } | undefined;
    }
  | { readonly type: 'piece'; readonly id: number; readonly data: string | Uint8Array }
  | { readonly type: 'end'; readonly id: number }
  /** @param status what a HandlerError asks for */
  | { readonly type: 'error'; readonly id: number; readonly message: string; readonly status: number | undefined }
  | {
      readonly type: 'generate';
      readonly call: number;
      readonly generation: number;
      readonly params: PredictParams;
      readonly stream: boolean;
    }
  /** Wants the next event of a streamed generation. */
  | { readonly type: 'pull'; readonly generation: number }
  /** Wants no more of it. */
  | { readonly type: 'leave'; readonly generation: number }
  | { readonly type: 'pong' };

/** Pieces of a stream that may be on their way to a reader who has not taken them. */
export const STREAM_WINDOW = 32;
