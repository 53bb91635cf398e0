import { create } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { Code, ConnectError } from '@connectrpc/connect';
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from '../../gen/google/rpc/error_details_pb.js';
import { AppError, type ErrorReason, type ErrorSpec } from '../errors.js';

/** `google.rpc.ErrorInfo.domain` of every error of this server. */
const ERROR_DOMAIN = 'loramux';

const CODES: Readonly<Record<ErrorSpec['code'], Code>> = {
  invalid_argument: Code.InvalidArgument,
  not_found: Code.NotFound,
  already_exists: Code.AlreadyExists,
  failed_precondition: Code.FailedPrecondition,
  resource_exhausted: Code.ResourceExhausted,
  unavailable: Code.Unavailable,
  deadline_exceeded: Code.DeadlineExceeded,
  canceled: Code.Canceled,
  aborted: Code.Aborted,
  permission_denied: Code.PermissionDenied,
  unimplemented: Code.Unimplemented,
  internal: Code.Internal,
};

/** Reasons of errors that the protocol layer raises itself. */
const PROTOCOL_REASONS: Partial<Record<Code, ErrorReason>> = {
  [Code.InvalidArgument]: 'INVALID_REQUEST',
  [Code.ResourceExhausted]: 'PAYLOAD_TOO_LARGE',
  [Code.Unimplemented]: 'UNIMPLEMENTED',
  [Code.DeadlineExceeded]: 'DEADLINE',
  [Code.Canceled]: 'CANCELED',
};

/**
 * Adds `ErrorInfo` to an error that the protocol layer raised while it read a request. What it calls its own fault there
 * is a message that it could not read, so the code becomes that of a bad request.
 *
 * @returns its reason; undefined where it has an `ErrorInfo`, or means nothing that the table knows
 */
export function explain(error: ConnectError, requestId: string): ErrorReason | undefined {
  if (error.findDetails(ErrorInfoSchema).length > 0) return undefined;
  if (error.code === Code.Internal) (error as { code: Code }).code = Code.InvalidArgument;
  const reason = PROTOCOL_REASONS[error.code];
  if (reason === undefined) return undefined;
  const value = { reason, domain: ERROR_DOMAIN, metadata: { request_id: requestId } };
  error.details.push({ desc: ErrorInfoSchema, value });
  return reason;
}

/**
 * What a failure means once it is known why the call was aborted, if it was: a passed deadline and a client that
 * left look alike to the layers below, and both are told from faults of the server.
 *
 * @param signal the call's signal; its reason says who aborted
 */
export function classify(thrown: unknown, signal: AbortSignal): AppError | ConnectError {
  const aborted = signal.aborted ? (signal.reason as unknown) : undefined;
  if (aborted !== undefined && !(thrown instanceof AppError && thrown.reason !== 'CANCELED')) {
    if (aborted instanceof AppError) return aborted;
    const code = aborted instanceof ConnectError ? aborted.code : Code.Canceled;
    if (code === Code.DeadlineExceeded) {
      return new AppError('DEADLINE', 'the deadline passed before the answer was complete', { cause: thrown });
    }
    return new AppError('CANCELED', 'the call was cancelled', { cause: thrown });
  }
  return thrown instanceof ConnectError ? thrown : AppError.from(thrown);
}

/**
 * Renders an error in Google's error model: `ErrorInfo` always, `BadRequest` for broken fields, `RetryInfo` where a
 * retry makes sense at a known time.
 */
export function toConnectError(error: AppError | ConnectError, requestId: string): ConnectError {
  if (error instanceof ConnectError) {
    explain(error, requestId);
    return error;
  }
  const message =
    error.reason === 'INTERNAL' ? `internal error; the log has more under request id ${requestId}` : error.message;
  const details: NonNullable<ConstructorParameters<typeof ConnectError>[3]> = [
    {
      desc: ErrorInfoSchema,
      value: { reason: error.reason, domain: ERROR_DOMAIN, metadata: { ...error.metadata, request_id: requestId } },
    },
  ];
  if (error.violations.length > 0) {
    const fieldViolations = error.violations.map(({ field, description }) => ({ field, description }));
    details.push({ desc: BadRequestSchema, value: create(BadRequestSchema, { fieldViolations }) });
  }
  const headers = new Headers();
  if (error.retryAfterMs !== undefined) {
    details.push({ desc: RetryInfoSchema, value: { retryDelay: durationFromMs(error.retryAfterMs) } });
    headers.set('retry-after', String(Math.max(1, Math.ceil(error.retryAfterMs / 1000))));
  }
  return new ConnectError(message, CODES[error.spec.code], headers, details, error.cause ?? error);
}
