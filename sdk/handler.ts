/** Entry for custom handlers: modules that answer the requests of a model themselves. */
import type { Input } from './handler-input.js';
import type { PredictParams, PredictResult, StreamEvent } from './types.js';

export { type ContentItem, Input } from './handler-input.js';
export type { PredictParams, PredictResult, StreamEvent } from './types.js';

/** An answer with more than a body. */
export interface Output {
  /** HTTP status; default 200. */
  readonly code?: number | undefined;
  /** Headers of the answer. */
  readonly properties?: Readonly<Record<string, string>> | undefined;
  readonly body?: OutputBody | undefined;
}

/**
 * A text and bytes are sent as they are; an async iterable is a stream, whose items are sent as they come (texts and
 * bytes as they are, anything else as a line of JSON); anything else is JSON.
 */
export type OutputBody = string | Uint8Array | AsyncIterable<unknown> | object | number | boolean | null;

/** Marks an {@link OutputValue}, whichever copy of this package made it. */
export const OUTPUT: symbol = Symbol.for('@loramux/sdk/handler/output');

/** An {@link Output} that was made with {@link output}; a plain object with a field `code` is just JSON. */
export class OutputValue implements Output {
  readonly [OUTPUT] = true;
  readonly code: number | undefined;
  readonly properties: Readonly<Record<string, string>> | undefined;
  readonly body: OutputBody | undefined;

  constructor({ code, properties, body }: Output) {
    this.code = code;
    this.properties = properties;
    this.body = body;
  }
}

/** Makes an answer with a status or headers of its own. */
export function output(parts: Output): OutputValue {
  return new OutputValue(parts);
}

/** Thrown by a handler to choose the status of a failure; any other error is 424. */
export class HandlerError extends Error {
  readonly code: number;

  /** @param code HTTP status, 400 to 599 */
  constructor(message: string, code = 424) {
    super(message);
    this.name = 'HandlerError';
    this.code = code;
  }
}

/** What a handler may use. */
export interface HandlerContext {
  /** Name of the model that the handler answers for. */
  readonly model: string;
  /** The adapter that the handler belongs to; absent = it is the model's own handler. */
  readonly adapter?: string | undefined;
  /** Folder of the model: that of its `serving.properties`. For a handler of an adapter, the adapter's folder. */
  readonly modelDir: string;
  /** Keys of `serving.properties`. For a handler of an adapter, the options of its registration. */
  readonly properties: Readonly<Record<string, string>>;
  /** Id of the request in the log of the server. */
  readonly requestId: string;
  /** Aborts when the client has left or the time of the call is up. */
  readonly signal: AbortSignal;
  /**
   * Lets the model generate, with any adapters, as `client.predict` does. For a handler of an adapter: with that one,
   * where nothing else is said, or with the base model, but with no other.
   * @throws Error with `reason` and `code` as the error table has them; a model without weights generates nothing
   */
  generate(params: PredictParams): Promise<PredictResult[]>;
  /** The same as a stream; leaving it early ends the generation. */
  stream(params: PredictParams): AsyncIterable<StreamEvent>;
}

/** The functions of a handler; what is missing is not called. */
export interface Handler {
  /** Answers a request; undefined = 204. */
  handle(input: Input, context: HandlerContext): Awaitable<OutputBody | OutputValue | undefined>;
  /** An adapter is registered: properties `name`, `src` and `alias`, content as the registration has it. */
  registerAdapter?(input: Input, context: HandlerContext): Awaitable<unknown>;
  /** A registered adapter is changed; the same input as for its registration. */
  updateAdapter?(input: Input, context: HandlerContext): Awaitable<unknown>;
  /** An adapter goes: property `name`. */
  unregisterAdapter?(input: Input, context: HandlerContext): Awaitable<unknown>;
}

/** A value, or the promise of one. */
export type Awaitable<T> = T | Promise<T>;

/** Names the types of a handler's functions; returns it as it is. */
export function defineHandler<H extends Handler>(handler: H): H {
  return handler;
}
