/**
 * Keys and values in pages, and shaders with 16-bit floats. They need a device with shader-f16: Mesa's lavapipe has it from
 * version 25 on, and is made of software. `LORAMUX_TEST_HALF_ICD` names its lvp_icd.json.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { countDispatches, shortened } from '../../bench/gpu-dispatches.js';
import type { BoundAdapter } from '../../server/adapters/types.js';
import { run } from '../engine/loop-run.js';
import { worstErrors } from './golden-errors.js';
import { type GpuGolden, goldenRows, loseDevice, noHalf, openGpuGolden } from './half-device.js';

const HALF = { half: true, bits: undefined } as const;
/** Bound on a logit of the golden models, whose largest are about 10. Measured: 0.07 at most. */
const TOLERANCE = 0.1;
/** Adapters of every graph: low ranks, some linears only, gains. */
const NAMES = ['all-r8', 'qv-r4', 'dora'];

describe('keys and values in pages on WebGPU', { skip: noHalf }, () => {
  let opened: GpuGolden;
  before(async () => {
    opened = await openGpuGolden('qwen3', { precision: HALF, kv: 'paged' });
  });
  after(() => opened.close());

  const { bind, row, loop, crowd } = goldenRows(() => opened);
  const longPrompt = (length: number) => {
    const { model } = opened;
    return Array.from({ length }, (_, i) => model.promptIds('p0')[i % model.promptIds('p0').length]!);
  };
  const held = () => opened.runner.model.pages!.held;

  test('the kernel over pages is taken', () => {
    assert.equal(opened.runner.model.attention.form, 'paged', opened.runner.model.attention.how);
  });

  test('base and adapters are within what 16 bits hold of PyTorch, alone and in a mixed batch', async () => {
    const adapters = await Promise.all(NAMES.map(async (name) => [name, await bind(name)] as const));
    const worst = await worstErrors(opened, [[null, undefined], ...adapters]);
    assert.ok(worst.alone <= TOLERANCE && worst.batch <= TOLERANCE, JSON.stringify(worst));
    assert.equal(held(), 0);
  });

  test('rows that arrive, leave and are cancelled between steps change nobody else, and leave no page behind', async () => {
    await crowd(NAMES);
    assert.equal(held(), 0);
  });

  test('rows that the pool has to grow for answer as they do alone', async () => {
    const adapter = await bind('all-r8');
    const engine = await loop([adapter], { maxBatch: 24, prefillChunk: 64 });
    const one = (i: number) =>
      row(i % 2 === 0 ? undefined : adapter, { promptIds: longPrompt(40 + i), maxNewTokens: 12 });
    const alone: number[][] = [];
    for (let i = 0; i < 9; i += 1) alone.push((await run(engine, [one(i)]))[0]!.tokens);
    let most = 0;
    const together = await run(
      engine,
      Array.from({ length: 9 }, (_, i) => one(i)),
      () => {
        most = Math.max(most, held());
      },
    );
    assert.ok(most > 16, `${most} pages`);
    for (const [i, { tokens }] of together.entries()) assert.deepEqual(tokens, alone[i], `row ${i}`);
  });

  test('rows with a common prefix have the pages of it once, and answer the same', async () => {
    const adapter = await bind('all-r8');
    const engine = await loop([adapter], { prefixBytes: 1 << 24 });
    const promptIds = longPrompt(80);
    const same = (arrives: number) => row(adapter, { promptIds, arrives });
    const [first] = await run(engine, [same(0)]);
    const kept = held();
    assert.equal(kept, 2, 'the prefix cache has the two whole pages of 80 positions');
    let most = 0;
    const [second, third] = await run(engine, [same(0), same(0)], () => {
      most = Math.max(most, held());
    });
    for (const { tokens, end } of [second!, third!]) {
      assert.equal(end!.cachedTokens, 64);
      assert.deepEqual(tokens, first!.tokens);
    }
    assert.ok(most <= kept + 2, `${most} pages: two shared ones, and one of each row's own`);
    engine.unload(adapter.digest);
  });

  test('adapters take four dispatches more for each linear group, and nothing runs on the processor', async () => {
    const whole = await bind('all-r8');
    const adapter = { ...whole, linears: whole.linears.filter(({ module }) => !/\.[2-9]\./.test(module)) };
    const folder = shortened(opened.model.folder, 2);
    const [base, lora] = await countDispatches(folder, [[], [adapter]], 4, HALF, 'paged');
    for (const { total } of [base!, lora!]) assert.deepEqual(total.elsewhere, []);
    assert.equal(lora!.layer.nodes - base!.layer.nodes, 4 * 4);
    assert.equal(lora!.layer.dispatches - base!.layer.dispatches, base!.layer.dispatches === 0 ? 0 : 4 * 4);
  });

  test('300 requests leave no page and no buffer behind', async () => {
    const small = await openGpuGolden('qwen3', { precision: HALF, kv: 'paged' }, 1);
    try {
      const whole = await Promise.all(NAMES.slice(0, 2).map(bind));
      const adapters: BoundAdapter[] = whole.map((adapter) => ({
        ...adapter,
        linears: adapter.linears.filter(({ module }) => /\blayers\.0\./.test(module)),
      }));
      const rows = goldenRows(() => small);
      const engine = await rows.loop(adapters);
      const usage = async () => {
        for (const { digest } of adapters) engine.unload(digest);
        await small.runner.model.queue.drained();
        const { usage: now } = small.runner.model.device;
        for (const adapter of adapters) await engine.load(adapter);
        return { ...now, pages: small.runner.model.pages!.held };
      };
      const requests = (count: number) =>
        Array.from({ length: count }, (_, i) =>
          rows.row([undefined, ...adapters][i % 3], {
            promptIds: [1 + (i % 50)],
            maxNewTokens: 1 + (i % 2),
            ...(i % 10 === 9 && { cancelled: 3 }),
          }),
        );
      await run(engine, requests(50));
      const before = await usage();
      for (let done = 0; done < 300; done += 50) await run(engine, requests(50));
      assert.deepEqual(await usage(), before);
      assert.equal(before.pages, 0);
    } finally {
      await small.close();
    }
  });

  test('a device that fails takes its pages with it, and the next one answers', async () => {
    const engine = await loop([]);
    const { pages } = opened.runner.model;
    const [before] = await run(engine, [row(undefined)]);
    await loseDevice(opened.runner, 'base');
    const [failed] = await run(engine, [row(undefined)]);
    assert.equal(failed!.end!.cause, 'error');
    const [answered] = await run(engine, [row(undefined)]);
    assert.deepEqual(answered!.tokens, before!.tokens);
    assert.notEqual(opened.runner.model.pages, pages);
    assert.equal(held(), 0);
  });
});
