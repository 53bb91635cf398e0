/** What the device finds of a step's logits: the graph for it by itself, and rows that get what whole logits give. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, mock, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { flattenReplaced } from '../../server/adapters/flatten.js';
import { readAdapterFolder } from '../../server/adapters/read-adapter.js';
import type { BoundAdapter } from '../../server/adapters/types.js';
import { EngineLoop } from '../../server/engine/engine-loop.js';
import type { SamplingOptions } from '../../server/engine/messages.js';
import { BASE_ROW, combine } from '../../server/engine/row-adapter.js';
import { GpuDevice, type GpuProvider } from '../../server/engine/webgpu/gpu-device.js';
import { GpuPicks } from '../../server/engine/webgpu/gpu-picks.js';
import { adapterBaseOf } from '../../server/model/module-table.js';
import { cutRow } from '../../server/model/webgpu/picks-graph.js';
import { counted } from '../engine/counted-steps.js';
import { GREEDY, LIMITS, run } from '../engine/loop-run.js';
import { type GpuGolden, goldenRows, noGpu, openGpuGolden } from './gpu-golden.js';

const { NaN: NOT, POSITIVE_INFINITY: INFINITE, NEGATIVE_INFINITY: NOTHING } = Number;
const RESIZED = fileURLToPath(new URL('../fixtures/peft-cases/resized/', import.meta.url));

/** Vocabularies that parts of 8 to 31 ids divide, that none does, smaller than a part, and beyond exact 16-bit floats. */
const VOCABULARIES = [512, 49_152, 257, 5, 70_001];

test('rows are cut into parts for one thread each, and padded where no such width divides the vocabulary', () => {
  assert.deepEqual(cutRow(49_152), { width: 24, padding: 0 });
  assert.deepEqual(cutRow(151_936), { width: 16, padding: 0 });
  assert.deepEqual(cutRow(50_257), { width: 29, padding: 0 });
  for (const vocab of VOCABULARIES) {
    const { width, padding } = cutRow(vocab);
    assert.equal((vocab + padding) % width, 0);
    assert.ok(width >= 8 && width < 32 && padding < width);
  }
});

for (const provider of ['webgpu', 'cpu'] as const satisfies readonly GpuProvider[]) {
  describe(`the largest logits, found by ${provider}`, { skip: provider === 'webgpu' && noGpu }, () => {
    const device = new GpuDevice(provider);
    after(() => device.close());

    const picksOf = async (rows: readonly Float32Array[]) => {
      const vocab = rows[0]!.length;
      const all = new Float32Array(rows.length * vocab);
      for (const [i, row] of rows.entries()) all.set(row, i * vocab);
      const logits = await device.upload('float32', all, [rows.length, vocab]);
      const found = await (await GpuPicks.open(device, vocab)).of(logits);
      device.free(logits);
      return found;
    };

    for (const vocab of VOCABULARIES) {
      const last = vocab - 1;
      /** Logits from -3 to 3, but for some of them. */
      const row = (some: Readonly<Record<number, number>> = {}, shift = 0) =>
        Float32Array.from({ length: vocab }, (_, id) => some[id] ?? 3 * Math.sin(id * 12.9898) + shift);

      test(`${vocab} ids: the lowest on ties, itself, and its log-probability`, async () => {
        const rows = [
          row(),
          row({ 0: 9 }),
          row({ [last]: 9 }),
          row({ [last - 1]: 9, [last]: 9 }),
          row({ 1: 9, [last]: 9 }),
          // Exponentials of these are beyond float32, or nothing.
          row({}, 500),
          row({}, -500),
          row({ 2: 300 }, -300),
          // Logits that differ in their last bit only.
          row({ 0: 4, [last]: 4 + 2 ** -21 }),
          new Float32Array(vocab),
          // Tokens that can never come.
          row({ 0: NOTHING, [last]: NOTHING }),
        ];
        const { ids, logits, logprobs } = await picksOf(rows);
        for (const [i, values] of rows.entries()) {
          const most = values.reduce((best, value) => Math.max(best, value), NOTHING);
          assert.equal(ids[i], values.indexOf(most), `row ${i}`);
          assert.equal(logits[i], most, `row ${i}`);
          const sum = values.reduce((total, value) => total + Math.exp(value - most), 0);
          assert.ok(Math.abs(logprobs[i]! + Math.log(sum)) < 1e-5, `row ${i}: ${logprobs[i]}`);
        }
      });

      test(`${vocab} ids: logits that are no numbers leave a row without a largest one, and other rows alone`, async () => {
        const good = row({ 1: 9 });
        const rows = [
          good,
          new Float32Array(vocab).fill(NOT),
          row({ 0: NOT }),
          row({ [last]: NOT, 1: 9 }),
          row({ [last >> 1]: NOT, [last]: 9 }),
          row({ 1: INFINITE }),
          row({ 0: INFINITE, [last]: INFINITE }),
          row({ 0: INFINITE, [last]: NOT }),
          new Float32Array(vocab).fill(NOTHING),
          good,
        ];
        const { ids, logits, logprobs } = await picksOf(rows);
        for (const i of rows.keys()) {
          const fine = rows[i] === good;
          assert.equal(ids[i], fine ? 1 : -1, `row ${i}`);
          assert.equal(Number.isFinite(logits[i]), fine, `row ${i}: ${logits[i]}`);
          assert.equal(Number.isFinite(logprobs[i]), fine, `row ${i}: ${logprobs[i]}`);
        }
      });
    }
  });
}

/** Where rows run: the device, and the numbers that only the processor provider has here. `largest`: about what they hold. */
const PLACES = {
  'llama on WebGPU': { name: 'llama', options: {}, largest: 3e38, skip: noGpu },
  'gpt2 on WebGPU': { name: 'gpt2', options: {}, largest: 3e38, skip: noGpu },
  'qwen3 in 16-bit floats, on the processor provider': {
    name: 'qwen3',
    options: { precision: { half: true, bits: undefined }, provider: 'cpu' },
    largest: 6e4,
    skip: false,
  },
} as const;

for (const [place, { name, options, largest, skip }] of Object.entries(PLACES)) {
  describe(`greedy rows of ${place}`, { skip }, () => {
    let opened: GpuGolden;
    before(async () => {
      opened = await openGpuGolden(name, options);
    });
    after(() => opened.close());
    const { bind, row } = goldenRows(() => opened);

    /** Runs the rows twice, with picks from the device and from whole logits. */
    const both = async (ask: (adapters: readonly BoundAdapter[]) => ReturnType<typeof row>[]) => {
      const adapters = await Promise.all(
        ['all-r8', 'dora'].filter((one) => one in opened.model.golden.adapters).map(bind),
      );
      const results = [];
      // Chunks of prompts are cut by what steps took: with clocks alike, both runs sum in the same order and round alike.
      let now = 0;
      const clock = mock.method(performance, 'now', () => now++);
      for (const withLargest of [true, false]) {
        now = 0;
        const { backend, steps } = counted(opened.runner, withLargest);
        // Guesses are asked for: a device is not known to compute several tokens for the price of one, and makes none.
        const engine = new EngineLoop(backend, { ...LIMITS, lookupTokens: 6 });
        for (const adapter of adapters) await engine.load(adapter);
        const outcomes = await run(engine, ask(adapters));
        for (const { end } of outcomes) assert.equal(end!.cause, 'length', end!.message);
        for (const { digest } of adapters) engine.unload(digest);
        results.push({ outcomes, steps });
      }
      clock.mock.restore();
      return results as [(typeof results)[0], (typeof results)[0]];
    };
    const sampled = (more: Partial<SamplingOptions>) => ({ sampling: { ...GREEDY, ...more } });

    test('get the tokens and log-probabilities of whole logits, base and adapters side by side', async () => {
      const [fast, whole] = await both((adapters) =>
        [undefined, ...adapters, undefined].map((adapter, i) =>
          row(adapter, { ...sampled(i === 3 ? {} : { logprobs: 0 }), maxNewTokens: 8, arrives: i }),
        ),
      );
      for (const [i, { tokens, logprobs }] of fast.outcomes.entries()) {
        assert.deepEqual(tokens, whole.outcomes[i]!.tokens, `row ${i}`);
        for (const [at, logprob] of logprobs.entries()) {
          const wanted = whole.outcomes[i]!.logprobs[at];
          assert.equal(logprob === undefined, i === 3);
          assert.ok(logprob === undefined || Math.abs(logprob - wanted!) < 1e-5, `row ${i}: ${logprob}, not ${wanted}`);
        }
      }
      assert.equal(fast.steps.logits, 0);
      assert.ok(fast.steps.largest > 0);
      assert.equal(whole.steps.largest, 0);
    });

    test('get them beside rows that draw, from whole logits, and from the device again when those have ended', async () => {
      const [fast, whole] = await both(([adapter]) => [
        row(undefined, { maxNewTokens: 12 }),
        row(adapter, { ...sampled({ temperature: 1, seed: 3 }), maxNewTokens: 3 }),
        row(adapter, { ...sampled({ logprobs: 2 }), maxNewTokens: 3 }),
      ]);
      for (const [i, { tokens }] of fast.outcomes.entries()) assert.deepEqual(tokens, whole.outcomes[i]!.tokens);
      assert.ok(fast.steps.logits >= 2, `${fast.steps.logits} steps with rows that draw`);
      assert.ok(fast.steps.largest >= 6, `${fast.steps.largest} steps without them`);
    });

    test('a row that comes to numbers that are none is told apart from its neighbours', async () => {
      const { layers, hiddenSize } = opened.model.folder.spec;
      const overflowing: BoundAdapter = {
        digest: 'overflows',
        bytes: 0,
        linears: layers.map(({ attention: { output } }) => ({
          module: output.module,
          rank: 1,
          scaling: 1,
          a: new Float32Array(output.inFeatures).fill(1e3),
          b: new Float32Array(hiddenSize).fill(largest),
        })),
        norms: new Map(),
        features: ['lora'],
        warnings: [],
      };
      await opened.runner.load(overflowing);
      const bad = combine([{ adapter: overflowing, weight: 1 }]);
      const store = opened.runner.createStore(3, 32);
      const adapters = [BASE_ROW, bad, undefined];
      const slots = adapters.map((adapter) => adapter && { token: 5, length: 0, adapter, horizon: 32 });
      const { ids, logits } = await opened.runner.decodeGreedy(slots, store);
      const whole = await opened.runner.decode(slots, store);
      const { vocabSize } = opened.runner.spec;
      const base = whole.subarray(0, vocabSize);
      assert.equal(ids[0], base.indexOf(base.reduce((most, one) => Math.max(most, one))));
      assert.ok(whole.subarray(vocabSize, 2 * vocabSize).some((one) => !Number.isFinite(one)));
      assert.ok(!Number.isFinite(logits[1]), `${logits[1]}`);
      store.release();
      opened.runner.unload(overflowing.digest);
    });
  });
}

describe('a greedy row of llama on WebGPU', { skip: noGpu }, () => {
  let opened: GpuGolden;
  before(async () => {
    opened = await openGpuGolden('llama');
  });
  after(() => opened.close());
  const { row } = goldenRows(() => opened);

  test('whose adapter has ids of its own finds them, from whole logits; others go on without', async () => {
    const base = adapterBaseOf(opened.model.folder);
    const resized = await flattenReplaced(await readAdapterFolder(RESIZED, base), base);
    const { prompts } = JSON.parse(readFileSync(`${RESIZED}expected.json`, 'utf8')) as {
      prompts: { ids: number[]; greedy: number[] }[];
    };
    const { backend, steps } = counted(opened.runner, true);
    const engine = new EngineLoop(backend, LIMITS);
    await engine.load(resized);
    const { ids, greedy } = prompts[0]!;
    const [own, other] = await run(engine, [
      row(resized, { promptIds: ids, maxNewTokens: 4 }),
      row(undefined, { maxNewTokens: 10 }),
    ]);
    assert.deepEqual(own!.tokens, greedy.slice(0, 4));
    assert.deepEqual(other!.tokens, opened.model.expected(null).p0!.greedy.slice(0, 10));
    assert.ok(steps.logits >= 3 && steps.largest > 0, JSON.stringify(steps));
    engine.unload(resized.digest);
  });

  test('keeps its logits in one buffer of its store, which goes with it', async () => {
    const { runner } = opened;
    const { device, queue } = runner.model;
    await queue.drained();
    const before = device.usage;
    const store = runner.createStore(4, 32);
    const slots = (count: number, length: number) =>
      Array.from({ length: count }, () => ({ token: 5, length, adapter: BASE_ROW, horizon: 32 }));
    await runner.decode(slots(4, 0), store);
    const { bytes } = device.usage;
    const rowBytes = runner.spec.vocabSize * Float32Array.BYTES_PER_ELEMENT;
    for (let length = 1; length < 4; length += 1) {
      await runner.decodeGreedy(slots(4, length), store);
      assert.equal(device.usage.bytes, bytes + 4 * rowBytes);
    }
    store.reshape(2, 32, [0, 3], 4);
    await runner.decodeGreedy(slots(2, 4), store);
    assert.equal(device.usage.bytes, before.bytes + store.bytes + 2 * rowBytes);
    store.release();
    await queue.drained();
    assert.deepEqual(device.usage, before);
  });
});
