/** The error object of OpenAI's API: what its clients look at in a failed answer or stream. */
import { type AppError, ERRORS, type ErrorReason, type ErrorSpec } from '../errors.js';

/** What its clients may tell failures apart by; `code` says it exactly. */
type OpenAiErrorType = 'invalid_request_error' | 'not_found_error' | 'rate_limit_error' | 'server_error';

/** The type of a failure goes by the code that remote calls have of it. */
const TYPES: Readonly<Record<ErrorSpec['code'], OpenAiErrorType>> = {
  invalid_argument: 'invalid_request_error',
  not_found: 'not_found_error',
  already_exists: 'invalid_request_error',
  failed_precondition: 'invalid_request_error',
  resource_exhausted: 'server_error',
  unavailable: 'server_error',
  deadline_exceeded: 'server_error',
  canceled: 'invalid_request_error',
  aborted: 'invalid_request_error',
  permission_denied: 'invalid_request_error',
  unimplemented: 'invalid_request_error',
  internal: 'server_error',
};

/** Where the code says less than the reason. */
const OTHERS: Readonly<Partial<Record<ErrorReason, OpenAiErrorType>>> = {
  PAYLOAD_TOO_LARGE: 'invalid_request_error',
  QUEUE_FULL: 'rate_limit_error',
  SOURCE_CORRUPT: 'server_error',
  HANDLER_FAILED: 'server_error',
};

/** The field `type` of a failure's object. */
export function openAiType(reason: ErrorReason): OpenAiErrorType {
  return OTHERS[reason] ?? TYPES[ERRORS[reason].code];
}

/** A failure as the field `error` of an answer, or of a stream's last event. */
export function openAiError({ message, reason, violations }: AppError): object {
  return { message, type: openAiType(reason), param: violations[0]?.field ?? null, code: reason };
}
