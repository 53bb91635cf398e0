/** What the device's memory means for rows: budgets, leaks, neighbours. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { BoundAdapter } from '../../server/adapters/types.js';
import { EngineLoop } from '../../server/engine/engine-loop.js';
import { openOnDevice } from '../../server/engine/open-device.js';
import { AdapterResidency } from '../../server/engine/webgpu/adapter-residency.js';
import { GpuDevice } from '../../server/engine/webgpu/gpu-device.js';
import { supportsHalf } from '../../server/engine/webgpu/half-support.js';
import { allNorms } from '../../server/model/spec.js';
import { buildGpuGraph } from '../../server/model/webgpu/gpu-graph.js';
import { allGroups } from '../../server/model/webgpu/linear-groups.js';
import { openGolden } from '../engine/golden-model.js';
import { LIMITS, run } from '../engine/loop-run.js';
import { everything, FP32, type GpuGolden, goldenRows, loseDevice, noGpu, openGpuGolden } from './gpu-golden.js';

/** A second of a device made of software serves twenty. */
const REQUESTS = everything ? 1000 : 300;

describe('rows on WebGPU', { skip: noGpu }, () => {
  let opened: GpuGolden;
  before(async () => {
    opened = await openGpuGolden('llama');
  });
  after(() => opened.close());

  const NAMES = ['all-r8', 'qv-r4', 'patterns', 'layer1'];
  const { bind, row, greedy, loop, crowd } = goldenRows(() => opened);

  test('an adapter that overflows leaves its neighbours alone', async () => {
    const [good, other] = [await bind('all-r8'), await bind('qv-r4')];
    const huge = withValues(other, 'huge', 3e38);
    const engine = await loop([good, huge]);
    const [mine, base, broken] = await run(engine, [row(good), row(undefined), row(huge)]);
    assert.deepEqual(mine!.tokens, greedy('all-r8').slice(0, 6));
    assert.deepEqual(base!.tokens, greedy(null).slice(0, 6));
    assert.equal(broken!.tokens.length < 6 ? broken!.end!.cause : 'length', broken!.end!.cause);
    for (const { digest } of [good, huge]) engine.unload(digest);
  });

  test('rows that arrive, leave and are cancelled between steps change nobody else', async () => {
    await crowd(NAMES);
  });

  test('prefixes that rows share are copied on the device and answer the same', async () => {
    const adapter = await bind('all-r8');
    const engine = await loop([adapter], { prefixBytes: 1 << 24 });
    const promptIds = Array.from({ length: 3 }, () => opened.model.promptIds('p0'))
      .flat()
      .slice(0, 80);
    const rows = [row(adapter, { promptIds }), row(adapter, { promptIds, arrives: 40 })];
    const [first, second] = await run(engine, rows);
    assert.equal(first!.end!.cachedTokens, 0);
    assert.ok(second!.end!.cachedTokens > 0);
    assert.deepEqual(second!.tokens, first!.tokens);
    engine.unload(adapter.digest);
  });

  test('adapters above the budget are evicted, come back, and answer the same', async () => {
    const { device } = opened.runner.model;
    const { spec } = opened.model.folder;
    const adapters = await Promise.all(NAMES.map(bind));
    const groups = allGroups(spec);
    const probe = new AdapterResidency(device, groups, FP32, Number.POSITIVE_INFINITY);
    const budget = Math.max(...adapters.map((adapter) => probe.bytesOf(adapter)));
    const small = await openGpuGolden('llama', { adapterBytes: budget });
    try {
      const engine = new EngineLoop(small.runner, LIMITS);
      for (const adapter of adapters) await engine.load(adapter);
      for (let round = 0; round < 2; round += 1) {
        for (const [i, adapter] of adapters.entries()) {
          const [outcome] = await run(engine, [row(adapter, { maxNewTokens: 3 })]);
          assert.deepEqual(outcome!.tokens, greedy(NAMES[i]!).slice(0, 3));
        }
      }
      // One that came back stays for the steps of its row.
      const { counts } = small.runner.model.residency;
      assert.ok(counts.uploads <= 3 * NAMES.length, `${counts.uploads} uploads`);
      const mixed = await run(
        engine,
        adapters.map((adapter) => row(adapter, { maxNewTokens: 3 })),
      );
      for (const [i, { tokens }] of mixed.entries()) assert.deepEqual(tokens, greedy(NAMES[i]!).slice(0, 3));
      const { residency } = small.runner.model;
      assert.ok(residency.counts.evictions > NAMES.length, `${residency.counts.evictions} evictions`);
      assert.ok(residency.bytes <= budget, `${residency.bytes} bytes of ${budget}`);
    } finally {
      await small.close();
    }
    const tight = new AdapterResidency(device, groups, FP32, budget - 1);
    const largest = adapters.find((adapter) => probe.bytesOf(adapter) === budget)!;
    await assert.rejects(tight.load(largest), /takes \d+ bytes on the device, more than/);
  });

  test(`${REQUESTS} requests leave no buffer behind: answered, cancelled, failed, and with a device lost among them`, async () => {
    // What a request takes and gives back is the same in every layer, and SwiftShader is slow: one is enough.
    const small = await openGpuGolden('qwen3', {}, 1);
    const { bind, row } = goldenRows(() => small);
    try {
      const whole = await Promise.all(NAMES.slice(0, 2).map(bind));
      const adapters: BoundAdapter[] = whole.map((adapter) => ({
        ...adapter,
        linears: adapter.linears.filter(({ module }) => /\blayers\.0\./.test(module)),
      }));
      assert.ok(adapters.every(({ linears }) => linears.length > 0));
      // Its rows end with an error: their logits are no numbers.
      const broken = withValues(adapters[0]!, 'broken', 3e38);
      adapters.push(broken);
      const engine = new EngineLoop(small.runner, LIMITS);
      for (const adapter of adapters) await engine.load(adapter);
      const requests = (count: number, from: number) =>
        Array.from({ length: count }, (_, i) =>
          row(i % 25 === 7 ? broken : [undefined, ...adapters][(from + i) % 3], {
            promptIds: [1 + ((from + i) % 50)],
            maxNewTokens: 1 + (i % 2),
            ...(i % 10 === 9 && { cancelled: 3 }),
          }),
        );
      // Without adapters, since what is kept of joined ones depends on which rows happened to meet.
      const usage = async () => {
        for (const { digest } of adapters) engine.unload(digest);
        await small.runner.model.queue.drained();
        const { usage: now } = small.runner.model.device;
        for (const adapter of adapters) await engine.load(adapter);
        return now;
      };
      await run(engine, requests(30, 0));
      const before = await usage();
      const causes = new Map<string, number>();
      for (let done = 0; done < REQUESTS; done += 50) {
        if (done === REQUESTS / 2) {
          assert.deepEqual(await usage(), before);
          await loseDevice(small.runner, 'lora');
        }
        for (const { end } of await run(engine, requests(50, done)))
          causes.set(end!.cause, (causes.get(end!.cause) ?? 0) + 1);
      }
      assert.deepEqual(await usage(), before);
      assert.equal(small.runner.restarts, 1);
      for (const cause of ['length', 'cancelled', 'error']) assert.ok((causes.get(cause) ?? 0) >= REQUESTS / 25, cause);
      for (const { digest } of adapters) engine.unload(digest);
    } finally {
      await small.close();
    }
  });

  test('graphs with 16-bit floats and with weights in blocks run wholly on the device', async () => {
    // Opening a session is refused if a node would run on the processor; running one needs shader-f16.
    const device = new GpuDevice();
    const model = await openGolden('qwen3', []);
    const { folder } = model;
    const small = new Map<string, Float32Array>();
    for (const { weight } of allNorms(folder.spec)) small.set(weight, await folder.checkpoint.readFloat32(weight));
    for (const variant of ['base', 'full'] as const) {
      for (const bits of [undefined, 8, 4] as const)
        await device.session(buildGpuGraph(folder.spec, variant, { half: true, bits }, small).bytes, false);
    }
    await device.close();
    await model.close();
  });

  test('precision follows the settings and what the device can do, and says why', async () => {
    const device = { device: 'webgpu', fallback: false, why: 'asked for' } as const;
    const { folder } = opened.model;
    const common = { threads: 1, lora: true, device } as const;
    const { backend, why } = await openOnDevice(folder, { ...common, dtype: 'int4' });
    assert.match(why, /activations in fp(16|32) \(the device has (no )?shader-f16\), weights in int4 blocks/);
    const exact = await openOnDevice(folder, { ...common, dtype: 'fp32', deviceFloats: 'fp32' });
    assert.match(exact.why, /activations in fp32 \(asked for\), weights in fp32/);
    const pages = await openOnDevice(folder, { ...common, dtype: 'fp32', deviceKv: 'paged' });
    assert.match(pages.why, /keys and values row by row, not in pages: they want 16-bit floats/);
    for (const one of [backend, exact.backend, pages.backend]) await one.close();
    if (await supportsHalf()) return;
    await assert.rejects(
      openOnDevice(folder, { ...common, dtype: 'int8', deviceFloats: 'fp16' }),
      /--device-floats fp16: the device has no shader-f16/,
    );
    const fallback = { ...device, fallback: true };
    const other = await openOnDevice(folder, { ...common, device: fallback, dtype: 'int8', deviceFloats: 'fp16' });
    assert.equal(other.device, 'cpu');
    assert.match(other.why, /could not be opened: WebGPU: .*no shader-f16/);
    await other.backend.close();
  });
});

/** The adapter with all its pairs' numbers replaced. */
function withValues(adapter: BoundAdapter, digest: string, value: number): BoundAdapter {
  const linears = adapter.linears.map((one) => ({ ...one, a: one.a.map(() => value), b: one.b.map(() => value) }));
  return { ...adapter, digest, linears };
}
