import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { LogNorms } from '../../server/engine/log-norms.js';
import { logSumExp } from '../../server/engine/logits-logprobs.js';

describe('normalisers of log-probabilities', () => {
  test('are those of each row, whatever stands beside it', async () => {
    const vocab = 1031;
    const norms = new LogNorms();
    const logits = Float32Array.from({ length: 5 * vocab }, (_, i) => Math.sin(i * 0.37) * 9 + Math.cos(i * 1.7) * 4);
    logits.fill(Number.NEGATIVE_INFINITY, vocab + 10, vocab + 900);
    const all = await norms.of(logits, vocab);
    assert.equal(all.length, 5);
    for (const [row, norm] of all.entries()) {
      const own = logits.subarray(row * vocab, (row + 1) * vocab);
      assert.ok(Math.abs(norm - logSumExp(own)) < 1e-5, `row ${row}: ${norm} against ${logSumExp(own)}`);
      assert.deepEqual([...(await norms.of(own.slice(), vocab))], [norm]);
    }
  });
});
