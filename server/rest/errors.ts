/**
 * Failures as DJL Serving renders them: `{code, type, message}`, and beside them the stable reason of the error table. Below
 * `/v1` the object of OpenAI's API stands in them, as its `error`.
 */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { AppError, type ErrorReason, FAULTS } from '../errors.js';
import { openAiError } from './openai-error.js';

/** Which of DJL's handlers answers; its error names differ between them. */
export type Surface = 'inference' | 'management';

/** A path of OpenAI's API, whether it is there or not. */
const OPENAI_PATH = /^\/v1(?:[/?]|$)/;

/** Exception names that clients of DJL Serving may look at; the rest goes by the status. */
const TYPES: Partial<Record<ErrorReason, string>> = {
  ROUTE_NOT_FOUND: 'ResourceNotFoundException',
  METHOD_NOT_ALLOWED: 'MethodNotAllowedException',
  ADAPTER_EXISTS: 'IllegalArgumentException',
  QUEUE_FULL: 'WlmCapacityException',
  INTERNAL: 'InternalServerException',
};

/** Body of an error answer. */
function errorBody(error: AppError, request: FastifyRequest): Record<string, unknown> {
  const surface = surfaceOf(request);
  // A workflow is a model to the original.
  const modelMissing = /^(MODEL|WORKFLOW)_NOT_FOUND$/.test(error.reason) && surface === 'inference';
  const status = statusOf(error);
  const byStatus = status === 503 ? 'ServiceUnavailableException' : 'BadRequestException';
  return {
    code: status,
    type: modelMissing ? 'ModelNotFoundException' : (TYPES[error.reason] ?? byStatus),
    message: error.message,
    // The inference handlers call the text "error", management calls it "message": inference answers have both.
    ...(isOpenAi(request) ? { error: openAiError(error) } : surface === 'inference' && { error: error.message }),
    reason: error.reason,
    ...(Object.keys(error.metadata).length > 0 ? { metadata: error.metadata } : {}),
    ...(error.violations.length > 0 ? { violations: error.violations } : {}),
  };
}

/** Answers a failure. */
export function sendError(thrown: unknown, request: FastifyRequest, reply: FastifyReply): void {
  const error = noteFailure(thrown, request);
  if (error.retryAfterMs !== undefined) reply.header('retry-after', String(Math.ceil(error.retryAfterMs / 1000)));
  reply.code(statusOf(error)).send(errorBody(error, request));
}

/** What ends a stream that had begun when it failed; each stream puts it in a line or an event. */
export function lastLine(error: AppError, request: FastifyRequest): object {
  const { message, reason } = error;
  const told = isOpenAi(request) ? { message, error: openAiError(error) } : { error: message };
  return { code: statusOf(error), ...told, reason };
}

/** HTTP status: that of the table, or what a custom handler asks for. */
export function statusOf(error: AppError): number {
  const asked = error.reason === 'HANDLER_FAILED' ? error.metadata.status : undefined;
  return asked === undefined ? error.spec.http : Number(asked);
}

/** Reasons of requests that failed, for their lines in the access log. */
const REASONS = new WeakMap<object, ErrorReason>();

/**
 * Notes why a request failed, and writes down what is the server's own fault; refusals are the caller's matter.
 * @returns what was thrown, by the error table
 */
export function noteFailure(thrown: unknown, { raw, log, server }: FastifyRequest): AppError {
  const error = toAppError(thrown, server.initialConfig.bodyLimit);
  REASONS.set(raw, error.reason);
  if (FAULTS.has(error.reason)) log.error({ err: error.cause ?? error, reason: error.reason }, error.message);
  return error;
}

/** Why a request failed, also one whose answer had begun; undefined = it did not. */
export function failureOf({ raw }: Pick<FastifyRequest, 'raw'>): ErrorReason | undefined {
  return REASONS.get(raw);
}

/**
 * Maps what fastify itself refuses to the error table.
 * @param maxBodyBytes the limit of request bodies, where it is known
 */
function toAppError(thrown: unknown, maxBodyBytes: number | undefined): AppError {
  if (thrown instanceof AppError) return thrown;
  const { code, statusCode, message } = (thrown ?? {}) as { code?: string; statusCode?: number; message?: string };
  if (code === 'FST_ERR_CTP_BODY_TOO_LARGE') {
    const most = maxBodyBytes === undefined ? '' : `: at most ${maxBodyBytes} bytes are read`;
    return new AppError(
      'PAYLOAD_TOO_LARGE',
      `the request body is too large${most}; --max-body-bytes changes the limit`,
    );
  }
  if (code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE') {
    return new AppError('INVALID_REQUEST', 'the content-type header is no media type such as application/json', {
      cause: thrown,
    });
  }
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    return new AppError('INVALID_REQUEST', message ?? 'the request cannot be read', { cause: thrown });
  }
  return AppError.from(thrown);
}

function surfaceOf(request: FastifyRequest): Surface {
  const config = request.routeOptions.config as { surface?: Surface };
  return config.surface ?? 'management';
}

/** A path that no route has is there as it was sent. */
function isOpenAi({ routeOptions, url }: FastifyRequest): boolean {
  return OPENAI_PATH.test(routeOptions.url ?? url);
}
