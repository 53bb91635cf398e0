/** What a refusal must look like. */
import assert from 'node:assert/strict';
import { AppError } from '../server/errors.js';

/** For `assert.rejects` and `assert.throws`: passes for an AppError of that reason, and a message that matches. */
export function failsWith(reason: string, message?: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof AppError, String(error));
    assert.equal(error.reason, reason, error.message);
    if (message !== undefined) assert.match(error.message, message);
    return true;
  };
}
