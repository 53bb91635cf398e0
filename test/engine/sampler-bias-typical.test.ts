import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { GREEDY } from '../../bench/greedy.js';
import { filterLogits } from '../../server/engine/logits-filter.js';
import { RowSampler } from '../../server/engine/sampler.js';

const typical: {
  logits: Record<string, number[]>;
  cases: { logits: string; params: Record<string, number>; probs: number[] }[];
} = JSON.parse(readFileSync(new URL('../fixtures/typical.json', import.meta.url), 'utf8'));

const plain = { ...GREEDY, logprobs: 1 };

describe('typical-p', () => {
  for (const [number, { logits, params, probs }] of typical.cases.entries()) {
    it(`case ${number}: ${logits} ${JSON.stringify(params)} as transformers`, () => {
      const { ids, weights, total } = filterLogits(Float32Array.from(typical.logits[logits]!), {
        temperature: params.temperature ?? 1,
        topK: params.top_k ?? 0,
        topP: params.top_p ?? 1,
        minP: params.min_p ?? 0,
        typicalP: params.typical_p!,
      });
      const got = new Array<number>(probs.length).fill(0);
      for (const [at, id] of ids.entries()) got[id] = weights[at]! / total;
      for (const [id, probability] of probs.entries()) {
        assert.ok(Math.abs(got[id]! - probability) < 1e-5, `token ${id}: ${got[id]} against ${probability}`);
      }
    });
  }
});

describe('logit bias', () => {
  const logits = () => Float32Array.of(1, 2, 4, 3);
  const pick = (logitBias: ReadonlyMap<number, number>, more: object = {}, prompt: readonly number[] = []) =>
    new RowSampler({ ...plain, logitBias, ...more }, prompt).pick(logits());

  it('bans and forces tokens, and leaves the told log-probabilities raw', () => {
    const banned = pick(new Map([[2, -100]]));
    assert.equal(banned.token, 3);
    assert.equal(banned.top![0]!.id, 2, 'alternatives are of the raw distribution');
    assert.ok(banned.logprob! < -1);
    assert.equal(pick(new Map([[0, 100]])).token, 0);
  });

  it('counts before penalties: a biased score is then divided or multiplied', () => {
    // -1 + 2 = 1, divided by 2 is 0.5; in the other order it would be -1 * 2 + 2 = 0.
    const scores = Float32Array.of(-1, 0.45);
    const sampler = new RowSampler({ ...plain, logitBias: new Map([[0, 2]]), repetitionPenalty: 2 }, [0]);
    assert.equal(sampler.pick(scores).token, 0);
    const other = new RowSampler({ ...plain, logitBias: new Map([[0, 2]]), repetitionPenalty: 4 }, [0]);
    assert.equal(other.pick(scores).token, 1);
  });

  it('leaves the logits as they are', () => {
    const scores = logits();
    new RowSampler({ ...plain, logitBias: new Map([[1, 50]]) }, []).pick(scores);
    assert.deepEqual(scores, logits());
  });
});
