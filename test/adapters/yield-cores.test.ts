import assert from 'node:assert/strict';
import { getPriority, setPriority } from 'node:os';
import { test } from 'node:test';
import { yieldCores } from '../../server/adapters/yield-cores.js';

test('a thread that gives way keeps what it has where that is less', { skip: process.platform !== 'linux' }, () => {
  yieldCores();
  assert.ok(getPriority(0) >= 10);
  setPriority(0, 19);
  yieldCores();
  assert.equal(getPriority(0), 19);
});
