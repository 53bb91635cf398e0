import assert from 'node:assert/strict';
import { test } from 'node:test';
import { threadsFor } from '../../server/engine/threads.js';

test('a small model leaves a core to the server, a large one takes them all', () => {
  const demo = 3_000_000;
  const real = 135_000_000;
  assert.deepEqual(
    [1, 2, 3, 64].map((cores) => threadsFor(demo, cores)),
    [1, 1, 2, 2],
  );
  assert.deepEqual(
    [1, 2, 64].map((cores) => threadsFor(real, cores)),
    [1, 2, 64],
  );
});
