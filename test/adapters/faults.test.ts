import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Faults } from '../../server/adapters/faults.js';

test('a refusal names the first faults, unsupported features before all, and counts the rest', () => {
  const faults = new Faults();
  faults.check();
  for (let i = 0; i < 420; i += 1) faults.add(`tensor ${i} does not fit`);
  faults.addUnsupported('a feature that is not applied');
  assert.throws(() => faults.check(), {
    reason: 'ADAPTER_INVALID',
    message:
      /^421 faults: a feature that is not applied; tensor 0 does not fit; .*tensor 6 does not fit; and 413 more, which a validation lists$/,
    metadata: { faults: '421' },
  });
  assert.equal(faults.all.length, 421);
});
