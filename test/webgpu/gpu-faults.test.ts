/**
 * What rows, adapters and prefixes come to when the device fails. Want of memory and refusals are the device's own; that
 * it is lost no driver here can be made to say, so that error alone is put in place of an answer of the provider.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { BoundAdapter } from '../../server/adapters/types.js';
import { EngineLoop } from '../../server/engine/engine-loop.js';
import { LIMITS, run } from '../engine/loop-run.js';
import { type GpuGolden, goldenRows, LOST, loseDevice, noGpu, openGpuGolden } from './gpu-golden.js';

describe('faults of a WebGPU device', { skip: noGpu }, () => {
  let opened: GpuGolden;
  before(async () => {
    opened = await openGpuGolden('llama', { adapterBytes: Number.POSITIVE_INFINITY });
  });
  after(() => opened.close());

  const { bind, row, greedy, loop } = goldenRows(() => opened);
  const long = () =>
    Array.from({ length: 3 }, () => opened.model.promptIds('p0'))
      .flat()
      .slice(0, 80);

  test('a cache that the device has no memory for fails its row, and the next row runs', async () => {
    const { runner } = opened;
    const { restarts } = runner;
    const engine = await loop([]);
    const createStore = runner.createStore.bind(runner);
    runner.createStore = (slots) => createStore(slots, 1 << 24);
    const [failed] = await run(engine, [row(undefined)]);
    runner.createStore = createStore;
    assert.equal(failed!.end!.cause, 'error');
    assert.equal(failed!.end!.reason, 'DEVICE_FAILED');
    assert.match(failed!.end!.message!, /graphics device has no memory left .*send the request again/);
    const [next] = await run(engine, [row(undefined)]);
    assert.deepEqual(next!.tokens, greedy(null).slice(0, 6));
    assert.equal(runner.restarts, restarts + 1);
    assert.equal(engine.stats().deviceRestarts, runner.restarts);
  });

  test('an adapter that the device has no memory for is refused; rows that run meanwhile get their own answers', async () => {
    const { runner } = opened;
    const adapter = await bind('all-r8');
    const engine = await loop([adapter]);
    const before = runner.model;
    // One matrix of more than 2^30 bytes, which SwiftShader has not in one piece. Its zeros take no memory of the host.
    const linear = adapter.linears.find(({ module }) => module.endsWith('o_proj'))!;
    const width = linear.a.length / linear.rank;
    const rank = Math.ceil(2 ** 30 / 4 / width) + 1024;
    const [a, b] = [new Float32Array(rank * width), new Float32Array(rank * (linear.b.length / linear.rank))];
    const huge: BoundAdapter = { ...adapter, digest: 'huge', linears: [{ ...linear, rank, a, b }] };
    // A row whose prompt has been told of in part is ended, not told of twice.
    const scored = { ...row(undefined, { promptIds: long() }), promptLogprobs: 1 };
    let refused: unknown;
    const [mine, base, ended] = await run(engine, [row(adapter), row(undefined), scored], () => {
      // Both others are read, and the first chunk of this one.
      if (engine.stats().prefillTokens < 2 * opened.model.promptIds('p0').length + 16) return;
      refused ??= assert.rejects(engine.load(huge), { reason: 'DEVICE_FAILED', message: /no memory left/ });
    });
    await refused;
    assert.deepEqual(
      [mine, base].map((one) => one!.end!.message),
      [undefined, undefined],
    );
    assert.deepEqual(mine!.tokens, greedy('all-r8').slice(0, 6));
    assert.deepEqual(base!.tokens, greedy(null).slice(0, 6));
    assert.equal(ended!.end!.reason, 'DEVICE_FAILED');
    assert.match(ended!.end!.message!, /failed while the prompt was scored/);
    assert.notEqual(runner.model, before);
    assert.deepEqual(before.device.usage, { buffers: 0, bytes: 0 });
    // It is nowhere: a row that names it is refused, and what was loaded before still answers.
    const [unknown, again] = await run(engine, [row(huge), row(adapter)]);
    assert.equal(unknown!.end!.cause, 'error');
    assert.deepEqual(again!.tokens, greedy('all-r8').slice(0, 6));
    // Sent once to the new device, and kept there.
    assert.equal(runner.model.residency.counts.uploads, 1);
    engine.unload(adapter.digest);
    assert.equal(runner.model.residency.bytes, 0);
  });

  test('a step that the device refuses fails its rows; the model is opened anew, without the prefixes that it had', async () => {
    const { runner } = opened;
    const adapter = await bind('all-r8');
    const engine = await loop([adapter], { prefixBytes: 1 << 24 });
    const ask = async () => (await run(engine, [row(adapter, { promptIds: long() })]))[0]!;
    const first = await ask();
    assert.ok((await ask()).end!.cachedTokens > 0);
    const { restarts, model } = runner;
    // A weight of another shape: what the graph cannot be run with.
    const weights = model.weights as Record<string, (typeof model.weights)[string]>;
    const [name] = Object.keys(weights);
    weights[name!] = await model.device.zeros('float32', [3, 5]);
    const failed = await ask();
    assert.equal(failed.end!.reason, 'DEVICE_FAILED');
    assert.match(failed.end!.message!, /graphics device refused this: .*send the request again/s);
    const fresh = await ask();
    assert.equal(fresh.end!.cachedTokens, 0);
    const reused = await ask();
    assert.ok(reused.end!.cachedTokens > 0);
    for (const { tokens } of [fresh, reused]) assert.deepEqual(tokens, first.tokens);
    assert.equal(runner.restarts, restarts + 1);
    engine.unload(adapter.digest);
    assert.equal(engine.stats().prefixBytes, 0);
  });

  test('after a lost device the rows of the failed step end, and all others are computed again with their own adapters', async () => {
    const adapters = [await bind('all-r8'), await bind('qv-r4')];
    // Rows of much different lengths decode in groups of their own, and a third one is being read.
    const engine = await loop(adapters, { stepPositions: 1, prefillChunk: 16 });
    const rows = [
      row(adapters[0], { promptIds: long(), maxNewTokens: 12 }),
      row(adapters[1], { maxNewTokens: 12, arrives: 1 }),
      row(undefined, { maxNewTokens: 12, arrives: 2 }),
      row(adapters[0], { promptIds: long(), maxNewTokens: 5, arrives: 14 }),
    ];
    const whole = await run(engine, rows);
    const lost = opened.runner.model;
    const { restarts } = opened.runner;
    let steps = 0;
    let losing: Promise<void> | undefined;
    const outcomes = await run(engine, rows, () => {
      steps += 1;
      if (steps === 15) losing = loseDevice(opened.runner, 'lora');
    });
    await losing;
    assert.equal(opened.runner.restarts, restarts + 1);
    assert.deepEqual(lost.device.usage, { buffers: 0, bytes: 0 });
    const ended = outcomes.map(({ end }) => end!.cause);
    assert.ok(ended.includes('error') && ended.includes('length'), ended.join());
    for (const [i, { tokens, end }] of outcomes.entries()) {
      if (end!.cause === 'error') assert.match(end!.message!, /graphics device was lost .*send the request again/);
      else assert.deepEqual(tokens, whole[i]!.tokens, `row ${i}`);
      assert.deepEqual(tokens, whole[i]!.tokens.slice(0, tokens.length), `row ${i}`);
    }
    assert.deepEqual(whole[1]!.tokens, greedy('qv-r4').slice(0, 12));
    for (const { digest } of adapters) engine.unload(digest);
  });

  test('a device that is lost while it looks for the largest logits, or has no memory for logits, fails like any other', async () => {
    const { runner } = opened;
    const engine = await loop([]);
    const ask = async () => (await run(engine, [row(undefined)]))[0]!;
    for (const fail of [
      () => {
        runner.model.picks.of = () => Promise.reject(LOST);
      },
      () => {
        const { device } = runner.model;
        const zeros = device.zeros.bind(device);
        // Caches have four dimensions, logits two: theirs are made larger than the device has in one piece.
        device.zeros = (type, dims) => zeros(type, dims.length === 2 ? [dims[0]!, 1 << 30] : dims);
      },
    ]) {
      const failing = runner.model;
      const { restarts } = runner;
      fail();
      const failed = await ask();
      assert.equal(failed.end!.reason, 'DEVICE_FAILED', failed.end!.message);
      assert.equal(runner.restarts, restarts + 1);
      assert.deepEqual(failing.device.usage, { buffers: 0, bytes: 0 });
      assert.deepEqual((await ask()).tokens, greedy(null).slice(0, 6));
    }
  });

  test('a device that cannot be opened again is at its end: everything is refused at once, and nothing hangs', async () => {
    const broken = await openGpuGolden('llama', { reopenPausesMs: [0] });
    const { runner, model } = broken;
    const engine = new EngineLoop(runner, LIMITS);
    const adapter = await bind('all-r8');
    await engine.load(adapter);
    // The model's files cannot be read any more, and the device fails.
    await model.folder.close();
    await loseDevice(runner, 'lora');
    const [failed, other] = await run(engine, [row(adapter), row(undefined, { arrives: 1 })]);
    assert.match(failed!.end!.message!, /device was lost .*could not be opened again: /);
    assert.match(other!.end!.message!, /could not be opened again: /);
    assert.match(runner.broken!.message, /could not be opened again: /);
    await assert.rejects(engine.load(await bind('qv-r4')), { reason: 'DEVICE_FAILED' });
    assert.equal(runner.restarts, 0);
    await runner.close();
    await model.tensors.close();
  });
});
