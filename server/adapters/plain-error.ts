/** Errors as they cross threads, which keep neither classes nor what hangs on them. */
import { AppError, type ErrorReason } from '../errors.js';

/** An error as it crosses threads. */
export interface PlainError {
  /** undefined: not an AppError. */
  readonly reason: ErrorReason | undefined;
  readonly message: string;
  readonly metadata: Readonly<Record<string, string>>;
}

/** What was thrown, for another thread; of what is no AppError also where it came from. */
export function plainError(thrown: unknown): PlainError {
  if (thrown instanceof AppError) {
    return { reason: thrown.reason, message: thrown.message, metadata: thrown.metadata };
  }
  return {
    reason: undefined,
    message: thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown),
    metadata: {},
  };
}

/** The same as an AppError again: INTERNAL, with the other thread's words as its cause, where it was none. */
export function revivedError({ reason, message, metadata }: PlainError): AppError {
  if (reason !== undefined) return new AppError(reason, message, { metadata });
  return new AppError('INTERNAL', 'internal error', { cause: new Error(message) });
}
