/** Custom handlers, as the surfaces see them. */
import type { CallContext, Receipt } from './types.js';

/** A request to a model's custom handler, as it came. */
export interface HandlerRequest {
  readonly model: string;
  /** The adapter whose own handler is asked; absent = the model's handler. */
  readonly adapter?: string | undefined;
  /** Headers and custom attributes. */
  readonly properties: readonly (readonly [name: string, value: string])[];
  /** Query parameters, then the body under `data` or the fields of a form. */
  readonly content: readonly { readonly key: string; readonly value: Uint8Array }[];
  /** True: of several places that name adapters the first counts. */
  readonly firstPlaceCounts?: boolean | undefined;
}

/** What a custom handler answered. */
export interface HandlerAnswer {
  /** HTTP status. */
  readonly code: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Uint8Array | AsyncIterable<string | Uint8Array> | undefined;
  /** Of what the server generated for it, in order; more may come while the body is a stream. */
  readonly receipts: readonly Receipt[];
}

/** Custom handlers: code of a model that answers in its place. */
export interface HandlerService {
  /** True where requests for the model go to its handler. */
  serves(model: string): boolean;
  /** False: no adapter may bring a handler, so that nothing needs to be looked up. */
  readonly takesAdapters: boolean;
  /**
   * The adapter whose own handler answers for a name of the model; undefined = none, as for names that nobody knows.
   * Throws INVALID_REQUEST for an alias that leads to one of them in several ways.
   */
  adapterOf(model: string, name: string): Promise<string | undefined>;
  /** Throws AppError HANDLER_FAILED, HANDLER_CRASHED, HANDLER_OUT_OF_MEMORY, HANDLER_TIMEOUT, QUEUE_FULL, CANCELED. */
  handle(request: HandlerRequest, call: CallContext): Promise<HandlerAnswer>;
}
