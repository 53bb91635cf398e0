/**
 * The one table of failures: every error that leaves the server is an {@link AppError} with a reason of this table,
 * which fixes its Connect code, its HTTP status and whether a retry can help. `docs/errors.md` is checked against it.
 */

/** How a reason is rendered on each surface. */
export interface ErrorSpec {
  /** Connect / gRPC code name, as in `google.rpc.Code`. */
  readonly code:
    | 'invalid_argument'
    | 'not_found'
    | 'already_exists'
    | 'failed_precondition'
    | 'resource_exhausted'
    | 'unavailable'
    | 'deadline_exceeded'
    | 'canceled'
    | 'aborted'
    | 'permission_denied'
    | 'unimplemented'
    | 'internal';
  /** HTTP status on the DJL-compatible routes. */
  readonly http: number;
  /** True where the same request may succeed later without a change. */
  readonly retryable: boolean;
  /** One sentence for `docs/errors.md`. */
  readonly meaning: string;
}

const spec = (code: ErrorSpec['code'], http: number, retryable: boolean, meaning: string): ErrorSpec => ({
  code,
  http,
  retryable,
  meaning,
});

/** Reason -> rendering. The reasons are stable: clients switch on them (`google.rpc.ErrorInfo.reason`). */
export const ERRORS = {
  INVALID_REQUEST: spec(
    'invalid_argument',
    400,
    false,
    'The request breaks a rule of the schema; the message names the field.',
  ),
  CONFLICTING_ADAPTERS: spec(
    'invalid_argument',
    400,
    false,
    'Two places of one request, or a fetch and the request of its answer, name different adapters.',
  ),
  ADAPTER_NOT_MIXABLE: spec(
    'invalid_argument',
    400,
    false,
    'An adapter that replaces or rescales weights is asked for in a mixture, or with a weight other than 1.',
  ),
  ADAPTER_COUNT_MISMATCH: spec(
    'invalid_argument',
    400,
    false,
    'The list of adapters is not as long as the list of inputs.',
  ),
  CONTEXT_LENGTH_EXCEEDED: spec(
    'invalid_argument',
    400,
    false,
    "Prompt and new tokens together do not fit the model's context.",
  ),
  CHAT_TEMPLATE_FAILED: spec(
    'invalid_argument',
    400,
    false,
    'The chat template refused the messages, or the model has none.',
  ),
  PAYLOAD_TOO_LARGE: spec('resource_exhausted', 413, false, 'The request body is larger than the server accepts.'),
  METHOD_NOT_ALLOWED: spec('unimplemented', 405, false, 'The path exists, but not with this HTTP method.'),
  ROUTE_NOT_FOUND: spec('not_found', 404, false, 'No such path.'),
  MODEL_NOT_FOUND: spec('not_found', 404, false, 'No model of that name is served.'),
  MODEL_EXISTS: spec('already_exists', 409, false, 'A model or workflow of that name is registered already.'),
  MODEL_IN_USE: spec('failed_precondition', 409, false, 'Workflows still use the model; unregister them first.'),
  MODEL_NOT_READY: spec(
    'unavailable',
    503,
    true,
    'The model or workflow is registered, but it is still loading, or it failed to load; its description tells which.',
  ),
  MODEL_SOURCE_INVALID: spec(
    'not_found',
    404,
    false,
    'There is no model, or no workflow, at the url: nothing at all, or a folder without a config.json.',
  ),
  MODEL_SOURCE_FORBIDDEN: spec(
    'permission_denied',
    400,
    false,
    'The url lies outside the folders that models and workflows may be registered from.',
  ),
  WORKFLOW_NOT_FOUND: spec('not_found', 404, false, 'No workflow of that name, or not of that version, is registered.'),
  WORKFLOW_EXISTS: spec('already_exists', 409, false, 'A workflow of that name and version is registered already.'),
  WORKFLOW_INVALID: spec(
    'invalid_argument',
    400,
    false,
    'The definition of the workflow makes no sense; the message says where in the file.',
  ),
  ADAPTER_NOT_FOUND: spec('not_found', 404, false, 'No adapter of that name is registered (management routes).'),
  VERSION_NOT_FOUND: spec('not_found', 404, false, 'The adapter never had a version of that digest.'),
  ALIAS_NOT_FOUND: spec('not_found', 404, false, 'No alias of that name (management routes).'),
  ADAPTER_IN_USE: spec(
    'failed_precondition',
    409,
    false,
    'An alias leads to the adapter, or a workflow answers with it; change or delete that first.',
  ),
  ADAPTER_NOT_REGISTERED: spec(
    'not_found',
    424,
    false,
    'A request for an answer names an adapter that is not registered; nothing was generated.',
  ),
  ADAPTER_EXISTS: spec('already_exists', 409, false, 'An adapter of that name is registered already.'),
  ADAPTER_INVALID: spec(
    'failed_precondition',
    424,
    false,
    'The adapter is broken or does not fit the model; the message lists every fault.',
  ),
  ADAPTER_UNSUPPORTED: spec(
    'failed_precondition',
    424,
    false,
    'The adapter needs a PEFT feature that the engine does not apply; it is refused rather than half applied.',
  ),
  ADAPTER_SOURCE_INVALID: spec(
    'failed_precondition',
    424,
    false,
    'The source cannot be read: malformed, missing, without access, or no adapter (or model) in it.',
  ),
  ADAPTER_SOURCE_FORBIDDEN: spec(
    'permission_denied',
    400,
    false,
    'The source lies outside the folders that adapters may be registered from, or no rule allows it.',
  ),
  SOURCE_UNAVAILABLE: spec(
    'unavailable',
    503,
    true,
    'The place that the source names did not answer, or not in time, or the system let no further file be opened or thread be started; what has arrived is kept.',
  ),
  SOURCE_CORRUPT: spec(
    'failed_precondition',
    424,
    true,
    'What the source delivered is not what its digest says; nothing of it is used, and the next use fetches it anew.',
  ),
  SOURCE_TOO_LARGE: spec(
    'failed_precondition',
    424,
    false,
    'The source is larger than a source may be; the message has the numbers.',
  ),
  SOURCE_CACHE_FULL: spec(
    'resource_exhausted',
    507,
    true,
    'The source does not fit the cache of remote files, or its disk; the message has the numbers.',
  ),
  ADAPTER_FAILED: spec(
    'failed_precondition',
    424,
    false,
    'The adapter is registered, but it failed to load; its state tells why. It is tried again once the files of its folder have changed; one from elsewhere by a use some seconds later.',
  ),
  ADAPTER_OVERFLOW: spec(
    'failed_precondition',
    424,
    false,
    "An input's numbers left the range of floats: its adapters, or the weights that they are given, are too large.",
  ),
  LORA_DISABLED: spec('failed_precondition', 400, false, 'This model is served without LoRA.'),
  MODEL_INVALID: spec(
    'failed_precondition',
    400,
    false,
    'There is a model, but it is broken, or needs something that the engine does not implement.',
  ),
  ADAPTER_MEMORY_EXHAUSTED: spec('resource_exhausted', 507, true, 'The adapter does not fit the memory budget.'),
  KV_EXHAUSTED: spec('resource_exhausted', 507, true, 'The sequence does not fit the key/value memory budget.'),
  QUEUE_FULL: spec(
    'resource_exhausted',
    503,
    true,
    'Too many requests wait already, for a place in the batch or for room for their adapters.',
  ),
  SLOW_CONSUMER: spec(
    'resource_exhausted',
    503,
    false,
    'The client reads its stream too slowly; the request was ended.',
  ),
  VERSION_CONFLICT: spec(
    'aborted',
    409,
    false,
    'The adapter has another digest than the request expects; read it again and decide anew.',
  ),
  REGISTRY_UNAVAILABLE: spec(
    'unavailable',
    503,
    true,
    'The registry cannot be read or written (disk full, read-only, database not reachable); answers go on.',
  ),
  HANDLER_FAILED: spec(
    'failed_precondition',
    424,
    false,
    "The model's custom handler threw an error; the message is the handler's own, and its status may replace 424.",
  ),
  HANDLER_CRASHED: spec('unavailable', 503, true, 'The thread of the custom handler ended; a new one is started.'),
  HANDLER_OUT_OF_MEMORY: spec(
    'resource_exhausted',
    507,
    false,
    'The custom handler used up its memory; a new thread of it is started.',
  ),
  HANDLER_TIMEOUT: spec('deadline_exceeded', 504, false, 'The custom handler did not answer in time.'),
  SHUTTING_DOWN: spec('unavailable', 503, true, 'The server is shutting down and takes no new work.'),
  ENGINE_FAILED: spec('unavailable', 503, true, 'The engine stopped unexpectedly.'),
  ENGINE_STALLED: spec(
    'unavailable',
    503,
    true,
    'A step of the engine does not return: its requests ended, and others are refused until it does.',
  ),
  DEVICE_FAILED: spec(
    'unavailable',
    503,
    true,
    'The graphics device was lost, ran out of memory or refused a step of the request; the engine opens it anew.',
  ),
  DEADLINE: spec('deadline_exceeded', 504, true, 'The deadline passed before the answer was complete.'),
  CANCELED: spec('canceled', 499, false, 'The client went away.'),
  UNIMPLEMENTED: spec('unimplemented', 501, false, 'The request asks for something that this server does not do.'),
  INTERNAL: spec('internal', 500, false, 'A fault of the server; the log has the details under the request id.'),
} as const satisfies Record<string, ErrorSpec>;

/** A stable reason of {@link ERRORS}. */
export type ErrorReason = keyof typeof ERRORS;

/** What is written down as the server's own trouble; other refusals are the caller's matter. */
export const FAULTS: ReadonlySet<ErrorReason> = new Set(['INTERNAL', 'ENGINE_FAILED', 'DEVICE_FAILED']);

/** One broken field of a request, as in `google.rpc.BadRequest.FieldViolation`. */
export interface FieldViolation {
  /** Path of the field, for example `inputs[2].adapters[0].name`. */
  readonly field: string;
  /** What is wrong with it and what would be right. */
  readonly description: string;
}

/** Details that every surface can render. */
export interface AppErrorOptions {
  /** Facts for machines (`ErrorInfo.metadata`), for example `{ adapter: 'fr', near: 'french' }`. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Broken fields, when the request itself is at fault. */
  readonly violations?: readonly FieldViolation[];
  /** When a retry makes sense, in milliseconds. */
  readonly retryAfterMs?: number;
  /** The error underneath; logged, never sent. */
  readonly cause?: unknown;
}

/** The only error class that crosses layers; anything else that surfaces is rendered as `INTERNAL`. */
export class AppError extends Error {
  readonly reason: ErrorReason;
  readonly metadata: Readonly<Record<string, string>>;
  readonly violations: readonly FieldViolation[];
  readonly retryAfterMs: number | undefined;

  constructor(reason: ErrorReason, message: string, options: AppErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'AppError';
    this.reason = reason;
    this.metadata = options.metadata ?? {};
    this.violations = options.violations ?? [];
    this.retryAfterMs = options.retryAfterMs;
  }

  /** The row of {@link ERRORS} for this error. */
  get spec(): ErrorSpec {
    return ERRORS[this.reason];
  }

  /** Wraps whatever was thrown; an unknown error becomes `INTERNAL` with a message that gives nothing away. */
  static from(thrown: unknown): AppError {
    if (thrown instanceof AppError) return thrown;
    return new AppError('INTERNAL', 'internal error', { cause: thrown });
  }
}
