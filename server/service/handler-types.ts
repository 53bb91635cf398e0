/** Custom handlers, as the surfaces see them. */
import type { CallContext } from './types.js';

/** A request to a model's custom handler, as it came. */
export interface HandlerRequest {
  readonly model: string;
  /** Headers and custom attributes. */
  readonly properties: readonly (readonly [name: string, value: string])[];
  /** Query parameters, then the body under `data` or the fields of a form. */
  readonly content: readonly { readonly key: string; readonly value: Uint8Array }[];
}

/** What a custom handler answered. */
export interface HandlerAnswer {
  /** HTTP status. */
  readonly code: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Uint8Array | AsyncIterable<string | Uint8Array> | undefined;
}

/** Custom handlers: code of a model that answers in its place. */
export interface HandlerService {
  /** True where requests for the model go to its handler. */
  serves(model: string): boolean;
  /** Throws AppError HANDLER_FAILED, HANDLER_CRASHED, HANDLER_OUT_OF_MEMORY, HANDLER_TIMEOUT, CANCELED. */
  handle(request: HandlerRequest, call: CallContext): Promise<HandlerAnswer>;
}
