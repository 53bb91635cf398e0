import { durationMs } from '@bufbuild/protobuf/wkt';
import { Code, ConnectError } from '@connectrpc/connect';
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from '../gen/google/rpc/error_details_pb.js';

/** What is known of a failure. */
export interface ErrorFacts {
  /** Stable reason of the server's error table, or one made up for failures that never reached it. */
  reason: string;
  /** Code of the RPC, for example `not_found`. */
  code: string;
  requestId?: string | undefined;
  metadata?: Readonly<Record<string, string>> | undefined;
  violations?: readonly { field: string; description: string }[] | undefined;
  retryAfterMs?: number | undefined;
  cause?: unknown;
}

const MARK = Symbol.for('loramux.error');

/** Any failure of a call. Its subclasses follow {@link reason}. */
export class LoramuxError extends Error {
  /** Stable reason, for example `ADAPTER_NOT_REGISTERED`. */
  readonly reason: string;
  /** Code of the RPC, for example `not_found`. */
  readonly code: string;
  /** Id of the request in the log of the server, if it got that far. */
  readonly requestId: string | undefined;
  /** Facts about the failure, for example the name that was not found. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Broken fields of the request. */
  readonly violations: readonly { field: string; description: string }[];
  /** When the server expects a retry to make sense. */
  readonly retryAfterMs: number | undefined;

  constructor(message: string, facts: ErrorFacts) {
    super(message, facts.cause === undefined ? undefined : { cause: facts.cause });
    this.name = new.target.name;
    this.reason = facts.reason;
    this.code = facts.code;
    this.requestId = facts.requestId;
    this.metadata = facts.metadata ?? {};
    this.violations = facts.violations ?? [];
    this.retryAfterMs = facts.retryAfterMs;
    Object.defineProperty(this, MARK, { value: true });
  }

  /** Like `instanceof`, also across two copies of this package. */
  static isInstance(value: unknown): value is LoramuxError {
    return typeof value === 'object' && value !== null && MARK in value;
  }
}

/** The request breaks a rule; {@link LoramuxError.violations} says which. */
export class InvalidRequestError extends LoramuxError {}
/** Prompt and new tokens do not fit the model's context. */
export class ContextLengthError extends InvalidRequestError {}
/** No model of that name is served. */
export class ModelNotFoundError extends LoramuxError {}
/** No adapter of that name is registered. */
export class AdapterNotFoundError extends LoramuxError {}
/** An adapter of that name is registered already. */
export class AdapterExistsError extends LoramuxError {}
/** No alias of that name. */
export class AliasNotFoundError extends LoramuxError {}
/** The adapter has another version than the call expects, or never had the one it names; or an alias or a workflow uses it. */
export class VersionConflictError extends LoramuxError {}
/** The adapter is broken, does not fit the model, or may not be read. */
export class AdapterInvalidError extends LoramuxError {}
/** The server has no room for the request right now. */
export class OverloadedError extends LoramuxError {}
/** The stream was read too slowly. */
export class SlowConsumerError extends LoramuxError {}
/** The server is shutting down, or its engine stopped. */
export class UnavailableError extends LoramuxError {}
/** The time for the call is over. */
export class DeadlineError extends LoramuxError {}
/** The call was cancelled. */
export class AbortedError extends LoramuxError {}
/** The server does not do what was asked for. */
export class UnimplementedError extends LoramuxError {}
/** A fault of the server. */
export class InternalError extends LoramuxError {}
/** The server could not be reached, or the connection broke. */
export class ConnectionError extends LoramuxError {}

type ErrorClass = new (message: string, facts: ErrorFacts) => LoramuxError;

/** Reasons of the server and the classes they become. */
export const ERROR_CLASSES: Readonly<Record<string, ErrorClass>> = {
  INVALID_REQUEST: InvalidRequestError,
  CONFLICTING_ADAPTERS: InvalidRequestError,
  ADAPTER_NOT_MIXABLE: InvalidRequestError,
  ADAPTER_COUNT_MISMATCH: InvalidRequestError,
  CONTEXT_LENGTH_EXCEEDED: ContextLengthError,
  CHAT_TEMPLATE_FAILED: InvalidRequestError,
  PAYLOAD_TOO_LARGE: InvalidRequestError,
  METHOD_NOT_ALLOWED: InvalidRequestError,
  ROUTE_NOT_FOUND: InvalidRequestError,
  MODEL_NOT_FOUND: ModelNotFoundError,
  ADAPTER_NOT_FOUND: AdapterNotFoundError,
  ADAPTER_NOT_REGISTERED: AdapterNotFoundError,
  ADAPTER_EXISTS: AdapterExistsError,
  ALIAS_NOT_FOUND: AliasNotFoundError,
  VERSION_CONFLICT: VersionConflictError,
  VERSION_NOT_FOUND: VersionConflictError,
  ADAPTER_IN_USE: VersionConflictError,
  REGISTRY_UNAVAILABLE: UnavailableError,
  MODEL_EXISTS: InvalidRequestError,
  MODEL_IN_USE: InvalidRequestError,
  MODEL_NOT_READY: UnavailableError,
  MODEL_SOURCE_INVALID: InvalidRequestError,
  MODEL_SOURCE_FORBIDDEN: InvalidRequestError,
  WORKFLOW_NOT_FOUND: ModelNotFoundError,
  WORKFLOW_EXISTS: InvalidRequestError,
  WORKFLOW_INVALID: InvalidRequestError,
  SOURCE_UNAVAILABLE: UnavailableError,
  SOURCE_CORRUPT: AdapterInvalidError,
  SOURCE_TOO_LARGE: AdapterInvalidError,
  SOURCE_CACHE_FULL: OverloadedError,
  ADAPTER_INVALID: AdapterInvalidError,
  ADAPTER_UNSUPPORTED: AdapterInvalidError,
  ADAPTER_SOURCE_INVALID: AdapterInvalidError,
  ADAPTER_SOURCE_FORBIDDEN: AdapterInvalidError,
  ADAPTER_FAILED: AdapterInvalidError,
  ADAPTER_OVERFLOW: AdapterInvalidError,
  LORA_DISABLED: InvalidRequestError,
  MODEL_INVALID: UnavailableError,
  ADAPTER_MEMORY_EXHAUSTED: OverloadedError,
  KV_EXHAUSTED: OverloadedError,
  QUEUE_FULL: OverloadedError,
  SLOW_CONSUMER: SlowConsumerError,
  SHUTTING_DOWN: UnavailableError,
  HANDLER_FAILED: InternalError,
  HANDLER_CRASHED: UnavailableError,
  HANDLER_OUT_OF_MEMORY: OverloadedError,
  HANDLER_TIMEOUT: DeadlineError,
  ENGINE_FAILED: UnavailableError,
  ENGINE_STALLED: UnavailableError,
  DEVICE_FAILED: UnavailableError,
  DEADLINE: DeadlineError,
  CANCELED: AbortedError,
  UNIMPLEMENTED: UnimplementedError,
  INTERNAL: InternalError,
  CONNECTION: ConnectionError,
};

/**
 * Node's codes for an HTTP/2 stream or connection that broke or was refused, as a server that shuts down does, for TLS that
 * did not come about, and for what is no HTTP.
 */
const BROKEN =
  /^(ERR_HTTP2_((STREAM|SESSION)_ERROR|STREAM_CANCEL|GOAWAY_SESSION|ERROR)|(ERR_SSL|ERR_TLS|HPE|CERT|CRL|UNABLE_TO|SELF_SIGNED|DEPTH_ZERO)_\w+)$/;

/** True for what sockets fail with (`write EPIPE`, `connect EHOSTUNREACH`), and the protocols right above them. */
function isBroken(cause: unknown): boolean {
  const { code, syscall } = (cause ?? {}) as { code?: unknown; syscall?: unknown };
  return typeof syscall === 'string' || (typeof code === 'string' && BROKEN.test(code));
}

/** What the error that is behind a lost connection says: `fetch` itself says no more than that it failed. */
function rootOf(error: Error): string {
  let root: unknown = error;
  while (root instanceof Error && root.cause instanceof Error) root = root.cause;
  // Of several addresses each has failed in its own way.
  const all = root instanceof AggregateError && root.message === '' ? (root.errors as unknown[]) : [root];
  return all.map((one) => (one instanceof Error ? one.message : String(one))).join(', ');
}

/** How the message runtime begins to tell of a value that a field cannot hold, such as 1.5 or -1 for a count. */
const UNWRITABLE = /^(serialize \w+: )?cannot encode /;

/** What a failure without `ErrorInfo` means: it comes from the protocol layer, here or on the server. */
function reasonOfCode(error: ConnectError): string {
  if (UNWRITABLE.test(error.rawMessage)) return 'INVALID_REQUEST';
  if (error.cause instanceof TypeError) return 'CONNECTION'; // what fetch throws when there is no connection
  switch (error.code) {
    case Code.InvalidArgument:
      return 'INVALID_REQUEST';
    case Code.ResourceExhausted:
      return 'PAYLOAD_TOO_LARGE';
    case Code.DeadlineExceeded:
      return 'DEADLINE';
    case Code.Unimplemented:
      return 'UNIMPLEMENTED';
    // The server says who cancelled; without a word from it, and not by the caller, it is Node's way to end the streams
    // of a connection that broke.
    case Code.Canceled:
    case Code.Unavailable:
    case Code.Aborted:
      return 'CONNECTION';
    default:
      return isBroken(error.cause) ? 'CONNECTION' : 'INTERNAL';
  }
}

const codeName = (code: Code): string => (Code[code] ?? 'unknown').replace(/(?!^)([A-Z])/g, '_$1').toLowerCase();

/**
 * Makes a {@link LoramuxError} of whatever a call threw.
 *
 * @param signal the caller's signal: once it is aborted, every failure is an {@link AbortedError}
 * @param known id of the request, where the server has told it before the failure
 */
export function toLoramuxError(thrown: unknown, signal?: AbortSignal, known?: string): LoramuxError {
  if (LoramuxError.isInstance(thrown)) return thrown;
  if (signal?.aborted) {
    const facts = { reason: 'CANCELED', code: 'canceled', requestId: known, cause: signal.reason };
    return new AbortedError('the call was aborted', facts);
  }
  const error = ConnectError.from(thrown);
  const info = error.findDetails(ErrorInfoSchema)[0];
  const retry = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
  const { request_id: requestId, ...metadata } = info?.metadata ?? {};
  const reason = info?.reason ?? reasonOfCode(error);
  const Class = ERROR_CLASSES[reason] ?? LoramuxError;
  const why = reason === 'CONNECTION' ? rootOf(error) : '';
  return new Class(why === '' || error.rawMessage.includes(why) ? error.rawMessage : `${error.rawMessage}: ${why}`, {
    reason,
    code: reason === 'INVALID_REQUEST' ? 'invalid_argument' : codeName(error.code),
    requestId: requestId ?? error.metadata.get('x-request-id') ?? known,
    metadata,
    violations: error
      .findDetails(BadRequestSchema)
      .flatMap(({ fieldViolations }) => fieldViolations.map(({ field, description }) => ({ field, description }))),
    retryAfterMs: retry === undefined ? undefined : durationMs(retry),
    cause: error,
  });
}
