import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { GREEDY } from '../../bench/greedy.js';
import { drawKnown, weighsAll } from '../../server/engine/known-weights.js';
import { expOfMinus } from '../../server/engine/logits-exp.js';
import { drawFrom, filterLogits } from '../../server/engine/logits-filter.js';
import { rawLogprobs } from '../../server/engine/logits-logprobs.js';
import { applyPenalties, TokenHistory } from '../../server/engine/logits-penalties.js';
import { argmax, largest } from '../../server/engine/logits-select.js';
import type { SamplingOptions } from '../../server/engine/messages.js';
import { uniformAt } from '../../server/engine/random.js';
import { RowSampler } from '../../server/engine/sampler.js';
import { StepWeights } from '../../server/engine/step-weights.js';

interface GoldenSampling {
  logits: Record<string, number[]>;
  cases: {
    logits: string;
    params: Record<string, number>;
    prompt_ids: number[];
    generated_ids: number[];
    kept: number[];
    probs: number[];
  }[];
  logprobs: { logits: string; logprobs: number[] }[];
}

const golden: GoldenSampling = JSON.parse(
  readFileSync(new URL('../../../shared/golden/sampling/sampling.json', import.meta.url), 'utf8'),
);

const plain: SamplingOptions = { ...GREEDY, temperature: 1 };

const logitsOf = fc.array(fc.float({ min: -20, max: 20, noNaN: true }), { minLength: 1, maxLength: 60 });

describe('golden sampling', () => {
  for (const [number, example] of golden.cases.entries()) {
    it(`case ${number}: ${example.logits} ${JSON.stringify(example.params)}`, () => {
      const p = example.params;
      const history = new TokenHistory(example.prompt_ids);
      for (const id of example.generated_ids) history.add(id);
      const scores = Float32Array.from(golden.logits[example.logits]!);
      applyPenalties(
        scores,
        {
          repetitionPenalty: p.repetition_penalty ?? 1,
          presencePenalty: p.presence_penalty ?? 0,
          frequencyPenalty: p.frequency_penalty ?? 0,
        },
        history,
      );
      const { ids, weights, total } = filterLogits(scores, {
        temperature: p.temperature ?? 1,
        topK: p.top_k ?? 0,
        topP: p.top_p ?? 1,
        minP: p.min_p ?? 0,
      });
      const probs = new Array<number>(scores.length).fill(0);
      for (const [index, id] of ids.entries()) probs[id] = weights[index]! / total;
      assert.deepEqual([...ids], example.kept);
      for (const [id, expected] of example.probs.entries()) assert.ok(Math.abs(probs[id]! - expected) < 1e-5);
    });
  }

  for (const example of golden.logprobs) {
    it(`log-probabilities of ${example.logits}`, () => {
      const logits = Float32Array.from(golden.logits[example.logits]!);
      const { top } = rawLogprobs(logits, 0, logits.length);
      assert.equal(top.length, example.logprobs.length);
      for (const { id, logprob } of top) {
        const expected = example.logprobs[id]!;
        assert.ok(Math.abs(logprob - expected) < 1e-5 * Math.max(1, Math.abs(expected)), `${id}: ${logprob}`);
        assert.equal(rawLogprobs(logits, id, 0).logprob, logprob);
      }
    });
  }
});

describe('selection', () => {
  it('takes the lowest id of the largest logits', () => {
    assert.equal(argmax(Float32Array.of(1, 3, 3, -1)), 1);
  });

  it('refuses logits without a finite maximum', () => {
    for (const values of [[Number.NaN, Number.NaN], [1, Number.POSITIVE_INFINITY], [Number.NEGATIVE_INFINITY], []]) {
      assert.throws(() => argmax(Float32Array.from(values)), /no finite maximum/);
    }
  });

  it('finds the n largest as a full sort does', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: -5, max: 5 }), { maxLength: 80 }), fc.nat(90), (values, count) => {
        const logits = Float32Array.from(values);
        const sorted = values.map((_, id) => id).sort((a, b) => values[b]! - values[a]! || a - b);
        assert.deepEqual([...largest(logits, count)], sorted.slice(0, count));
      }),
    );
  });
});

describe('expOfMinus', () => {
  it('agrees with Math.exp', () => {
    fc.assert(
      fc.property(fc.double({ min: 0, max: 700, noNaN: true }), (distance) => {
        assert.ok(Math.abs(expOfMinus(distance) / Math.exp(-distance) - 1) < 1e-13);
      }),
      { numRuns: 2000 },
    );
    assert.deepEqual([0, 744.9, 800, Number.POSITIVE_INFINITY, Number.NaN].map(expOfMinus), [
      1,
      expOfMinus(744.9),
      0,
      0,
      0,
    ]);
  });
});

describe('filters', () => {
  it('keeps what a sorted nucleus keeps', () => {
    fc.assert(
      fc.property(logitsOf, fc.double({ min: 0.05, max: 0.99, noNaN: true }), (values, topP) => {
        const logits = Float32Array.from(values);
        const best = Math.max(...logits);
        const sorted = [...logits.keys()].sort((a, b) => logits[b]! - logits[a]! || a - b);
        const weight = (id: number): number => Math.exp(logits[id]! - best);
        const total = sorted.reduce((sum, id) => sum + weight(id), 0);
        const kept: number[] = [];
        let above = 0;
        let close = false;
        for (const id of sorted) {
          // A cut within rounding of the border may fall on either side.
          if (Math.abs(above / total - topP) < 1e-9) close = true;
          if (above / total >= topP && kept.length > 0) break;
          kept.push(id);
          above += weight(id);
        }
        fc.pre(!close);
        const { ids } = filterLogits(logits, { temperature: 1, topK: 0, topP, minP: 0 });
        assert.deepEqual(
          [...ids],
          kept.sort((a, b) => a - b),
        );
      }),
    );
  });

  it('leave the same to draw from when the probabilities of all tokens are known beforehand', async () => {
    const weights = new StepWeights();
    const rowsOf = fc.integer({ min: 1, max: 60 }).chain((length) =>
      fc.array(fc.array(fc.float({ min: -20, max: 20, noNaN: true }), { minLength: length, maxLength: length }), {
        minLength: 1,
        maxLength: 4,
      }),
    );
    const optionsOf = fc.record({
      temperature: fc.double({ min: 0.2, max: 20, noNaN: true }),
      topP: fc.constantFrom(1, 1, 0.3, 0.7, 0.9),
      minP: fc.constantFrom(0, 0.1),
      topK: fc.constant(0),
    });
    let compared = 0;
    const near = 1e-5;
    await fc.assert(
      fc.asyncProperty(rowsOf, optionsOf, async (rows, options) => {
        if (!weighsAll(options)) return;
        const length = rows[0]!.length;
        const logits = Float32Array.from(rows.flat());
        const all = await weights.of(
          logits,
          rows.map(() => options.temperature),
        );
        for (const at of rows.keys()) {
          const own = logits.subarray(at * length, (at + 1) * length);
          const known = all.subarray(at * length, (at + 1) * length);
          for (let draw = 0.01; draw < 1; draw += 0.07) {
            // What lies at a border may fall to either side, of the draw as of the filters.
            const tokens = [-near, 0, near].flatMap((more) =>
              [1 - near, 1, 1 + near].map((scale) => {
                const moved = {
                  ...options,
                  topP: options.topP === 1 ? 1 : options.topP * scale,
                  minP: options.minP * scale,
                };
                return drawFrom(filterLogits(own, moved), draw + more);
              }),
            );
            assert.ok(tokens.includes(drawKnown(own, known, argmax(own), options, draw)));
            compared += 1;
          }
        }
      }),
      { numRuns: 200 },
    );
    assert.ok(compared > 1000);
  });

  it('never leaves the row without a token, and always keeps the best one', () => {
    fc.assert(
      fc.property(
        logitsOf,
        fc.double({ min: 1e-300, max: 100, noNaN: true }),
        fc.nat(70),
        fc.double({ min: 1e-12, max: 1, noNaN: true }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (values, temperature, topK, topP, minP, draw) => {
          const logits = Float32Array.from(values);
          const candidates = filterLogits(logits, { temperature, topK, topP, minP });
          assert.ok(candidates.ids.includes(argmax(logits)));
          assert.ok(Number.isFinite(candidates.total) && candidates.total >= 1);
          assert.ok(candidates.ids.includes(drawFrom(candidates, draw)));
        },
      ),
    );
  });
});

describe('RowSampler', () => {
  it('is greedy over the penalised logits at temperature 0', () => {
    const sampler = new RowSampler({ ...plain, temperature: 0, presencePenalty: 1.5 }, []);
    const logits = Float32Array.of(1, 3, 2);
    assert.deepEqual(
      [0, 1, 2, 3].map(() => sampler.pick(logits).token),
      [1, 2, 1, 1],
    );
    assert.deepEqual([...logits], [1, 3, 2], 'the logits are left alone');
  });

  it('gives equal tokens for equal seeds, whichever samplers run beside it', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0xffff_ffff }), fc.nat(), logitsOf, (seed, other, values) => {
        const logits = Float32Array.from(values);
        const alone = new RowSampler({ ...plain, seed }, [0]);
        const expected = Array.from({ length: 12 }, () => alone.pick(logits).token);
        const first = new RowSampler({ ...plain, seed }, [0]);
        const second = new RowSampler({ ...plain, seed: other }, [0]);
        const got = Array.from({ length: 12 }, () => {
          second.pick(logits);
          return first.pick(logits).token;
        });
        assert.deepEqual(got, expected);
      }),
      { numRuns: 50 },
    );
  });

  it('draws tokens as often as their probability says', () => {
    const logits = Float32Array.from([0.5, 0.3, 0.15, 0.05], Math.log);
    const counts = [0, 0, 0, 0];
    const rounds = 20_000;
    // One draw of each of many seeds, so that neighbouring seeds are seen to be independent too.
    for (let seed = 0; seed < rounds; seed++) counts[new RowSampler({ ...plain, seed }, []).pick(logits).token]!++;
    for (const [id, expected] of [0.5, 0.3, 0.15, 0.05].entries()) {
      assert.ok(Math.abs(counts[id]! / rounds - expected) < 0.015, `${id}: ${counts[id]}`);
    }
  });

  it('tells log-probabilities of the raw distribution, also when penalties and temperature change the choice', () => {
    const logits = Float32Array.of(2, 1, 0);
    const sampler = new RowSampler({ ...plain, temperature: 0, repetitionPenalty: 4, logprobs: 2 }, [0]);
    const picked = sampler.pick(logits);
    const norm = Math.log(Math.exp(2) + Math.exp(1) + 1);
    assert.equal(picked.token, 1);
    assert.ok(Math.abs(picked.logprob! - (1 - norm)) < 1e-12);
    assert.deepEqual(
      picked.top!.map(({ id }) => id),
      [0, 1],
    );
  });

  it('tells only the chosen one for logprobs 0, and nothing when not asked', () => {
    assert.deepEqual(Object.keys(new RowSampler({ ...plain, logprobs: 0 }, []).pick(Float32Array.of(0, 1))), [
      'token',
      'logprob',
    ]);
    assert.deepEqual(Object.keys(new RowSampler(plain, []).pick(Float32Array.of(0, 1))), ['token']);
  });
});

describe('random numbers', () => {
  it('lie in [0, 1) and differ between positions and seeds', () => {
    const seen = new Set<number>();
    for (let seed = 0; seed < 50; seed++) {
      for (let position = 0; position < 50; position++) {
        const draw = uniformAt(seed, position);
        assert.ok(draw >= 0 && draw < 1);
        seen.add(draw);
      }
    }
    assert.equal(seen.size, 2500);
  });

  it('stay the same in every release: stored seeds must keep their meaning', () => {
    assert.deepEqual(
      [uniformAt(0, 0), uniformAt(42, 7), uniformAt(0xffff_ffff, 1000)],
      [0.6524484863740322, 0.7347204584623639, 0.5001621384507695],
    );
  });
});
