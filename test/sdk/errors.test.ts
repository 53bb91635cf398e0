import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Code, ConnectError } from '@connectrpc/connect';
import * as sdk from '../../sdk/errors.js';
import { RETRYABLE_REASONS } from '../../sdk/retry.js';
import { AppError, ERRORS, type ErrorReason } from '../../server/errors.js';
import { toConnectError } from '../../server/rpc/errors.js';

describe('SDK errors', () => {
  it('have a class for every reason of the server', () => {
    for (const reason of Object.keys(ERRORS) as ErrorReason[]) {
      const error = sdk.toLoramuxError(toConnectError(new AppError(reason, 'what happened'), 'id-1'));
      assert.notEqual(error.constructor, sdk.LoramuxError, reason);
      assert.equal(error.constructor, sdk.ERROR_CLASSES[reason]);
      assert.equal(error.reason, reason);
      assert.equal(error.code, ERRORS[reason].code);
      assert.equal(error.requestId, 'id-1');
      assert.equal(error.name, error.constructor.name);
    }
  });

  it('are retried exactly where the server says that it helps', () => {
    const retryable = Object.entries(ERRORS).filter(([, { retryable }]) => retryable);
    // A passed deadline is the client's own budget: there is no time left to retry in.
    const reasons = retryable.map(([reason]) => reason).filter((reason) => reason !== 'DEADLINE');
    assert.deepEqual(new Set(reasons), RETRYABLE_REASONS);
  });

  it('carry the details', () => {
    const error = sdk.toLoramuxError(
      toConnectError(
        new AppError('INVALID_REQUEST', 'wrong', {
          metadata: { adapter: 'x' },
          violations: [{ field: 'inputs[0]', description: 'is odd' }],
          retryAfterMs: 250,
        }),
        'id-1',
      ),
    );
    assert.deepEqual(error.metadata, { adapter: 'x' });
    assert.deepEqual(error.violations, [{ field: 'inputs[0]', description: 'is odd' }]);
    assert.equal(error.retryAfterMs, 250);
  });

  it('tell a lost connection, an abort, and an unknown reason apart', () => {
    const signal = AbortSignal.abort(new Error('enough'));
    assert.ok(sdk.toLoramuxError(new ConnectError('x', Code.Unavailable)) instanceof sdk.ConnectionError);
    assert.ok(sdk.toLoramuxError(ConnectError.from(new TypeError('fetch failed'))) instanceof sdk.ConnectionError);
    assert.ok(sdk.toLoramuxError(new ConnectError('x', Code.Unavailable), signal) instanceof sdk.AbortedError);
    assert.ok(sdk.toLoramuxError(new ConnectError('x', Code.DeadlineExceeded)) instanceof sdk.DeadlineError);
    assert.ok(sdk.LoramuxError.isInstance(sdk.toLoramuxError(new Error('anything'))));
    assert.equal(sdk.LoramuxError.isInstance(new Error('anything')), false);
  });
});
