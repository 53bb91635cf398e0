import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AppError } from '../../server/errors.js';
import { createLogger } from '../../server/observe/logger.js';

function logged(error: unknown, level: 'info' | 'debug' = 'info') {
  let written = '';
  const log = createLogger(level, { write: (line) => (written += line) });
  log.warn({ err: error }, 'told');
  return (JSON.parse(written) as { err: Record<string, unknown> }).err;
}

test('a refusal is logged by what it says, once; whoever debugs gets the place in the code, too', () => {
  const cause = new Error('no room');
  const refusal = new AppError('REGISTRY_UNAVAILABLE', 'cannot be opened: no room', { cause, metadata: { file: 'f' } });
  assert.deepEqual(logged(refusal), {
    type: 'AppError',
    reason: 'REGISTRY_UNAVAILABLE',
    message: 'cannot be opened: no room',
    metadata: { file: 'f' },
  });
  assert.match(String(logged(refusal, 'debug').stack), /logger\.test/);
});

test('what is a fault of the server, or nobody foresaw, is logged with its stack and those of its causes', () => {
  for (const error of [new TypeError('odd'), AppError.from(new TypeError('odd'))]) {
    assert.match(String(logged(error).stack), /TypeError: odd\n +at .*logger\.test/);
  }
});
