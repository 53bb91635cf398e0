/**
 * A device that fails for good under `--device auto`: rows, adapters and prefixes go on on the processor. The device is a
 * real one whose answers are replaced by what a lost device says, and which cannot be opened again.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { flattenReplaced } from '../../server/adapters/flatten.js';
import { readAdapterFolder } from '../../server/adapters/read-adapter.js';
import type { BoundAdapter } from '../../server/adapters/types.js';
import { StoreLost } from '../../server/engine/backend.js';
import { EngineLoop, type LoopLimits } from '../../server/engine/engine-loop.js';
import { FallbackBackend } from '../../server/engine/fallback-backend.js';
import { openBackend } from '../../server/engine/open-backend.js';
import { openOnDevice } from '../../server/engine/open-device.js';
import { inPositions } from '../../server/engine/position-limits.js';
import { StepMarks } from '../../server/engine/step-marks.js';
import { StepRunner } from '../../server/engine/step-runner.js';
import type { GpuModelOptions } from '../../server/engine/webgpu/gpu-model.js';
import { openModelFolder } from '../../server/model/model-folder.js';
import { adapterBaseOf } from '../../server/model/module-table.js';
import { GOLDEN, openGolden } from '../engine/golden-model.js';
import { GREEDY, LIMITS, type Outcome, run } from '../engine/loop-run.js';
import { goldenRows, LOST, loseDevice, noGpu, openGpuGolden } from './gpu-golden.js';

const RESIZED = fileURLToPath(new URL('../fixtures/peft-cases/resized/', import.meta.url));

/** A golden model on a device that can be made to fail for good, and the processor behind it. */
async function openFalling(options: Partial<GpuModelOptions> = {}) {
  const opened = await openGpuGolden('llama', { reopenPausesMs: [0], ...options });
  const { model, runner } = opened;
  const folder = await openModelFolder(`${GOLDEN}models/llama`);
  const marks = new StepMarks();
  let most = 0;
  let begin = () => {};
  const moving = new Promise<void>((resolve) => {
    begin = resolve;
  });
  const backend = new FallbackBackend(
    runner,
    { device: 'webgpu', why: 'a test' },
    {
      marks,
      open: async (failure) => {
        most = Math.max(most, marks.look().opening);
        begin();
        const host = await openBackend(folder, { dtype: 'fp32', threads: 1, lora: true });
        return { backend: host, device: 'cpu', why: failure };
      },
    },
  );
  const { bind, row, greedy } = goldenRows(() => opened);
  return {
    ...{ model, runner, backend, bind, row, greedy },
    /** Resolves when the processor is being opened. */
    moving,
    /** How many openings were marked while the processor was opened. */
    marked: () => most,
    loop: async (adapters: readonly BoundAdapter[], limits: Partial<LoopLimits> = {}) => {
      const engine = new EngineLoop(backend, { ...LIMITS, ...limits });
      for (const adapter of adapters) await engine.load(adapter);
      return engine;
    },
    /** From now on the device is lost, and its model's files cannot be read any more. */
    fail: async () => {
      for (const variant of ['base', 'lora', 'full'] as const) await loseDevice(runner, variant);
      runner.model.device.upload = () => Promise.reject(LOST);
      await model.folder.close();
    },
    close: async () => {
      await backend.close();
      await runner.close();
      await folder.close();
      await model.tensors.close();
    },
  };
}

/** An adapter with a vocabulary of its own, and what PyTorch answers with it. */
async function bindResized() {
  const folder = await openModelFolder(`${GOLDEN}models/llama`);
  const base = adapterBaseOf(folder);
  const adapter = await flattenReplaced(await readAdapterFolder(RESIZED, base), base);
  await folder.close();
  const expected = JSON.parse(readFileSync(`${RESIZED}expected.json`, 'utf8')) as {
    prompts: { ids: number[]; greedy: number[] }[];
  };
  return { adapter, ...expected.prompts[0]! };
}

describe('a device that fails for good', { skip: noGpu }, () => {
  for (const next of ['decode', 'prefill'] as const) {
    test(`in a ${next} step: every row, running, half read or waiting, gets the tokens of its own adapter`, async () => {
      const { backend, runner, model, bind, row, greedy, loop, fail, close, marked } = await openFalling();
      const resized = await bindResized();
      const [qv, dora, all] = await Promise.all(['qv-r4', 'dora', 'all-r8'].map(bind));
      // Rows of much different lengths decode in groups of their own.
      const limits = { maxBatch: 6, prefillChunk: 8, stepPositions: 1, prefixBytes: 1 << 24 };
      const engine = await loop([qv!, dora!, all!, resized.adapter], limits);
      const asked = [
        { adapter: qv, name: 'qv-r4', prompt: 'p3', arrives: 0 },
        { adapter: dora, name: 'dora', prompt: 'p0', arrives: 0 },
        { adapter: undefined, name: null, prompt: 'p1', arrives: 0 },
        { adapter: all, name: 'all-r8', prompt: 'p0', arrives: 0 },
        { adapter: all, name: 'all-r8', prompt: 'p4', arrives: 18 },
        // There is no place for it before another one ends.
        { adapter: qv, name: 'qv-r4', prompt: 'p0', arrives: 19 },
      ];
      const rows = asked.map(({ adapter, prompt, arrives }) =>
        row(adapter, { promptIds: model.promptIds(prompt), maxNewTokens: 24, arrives }),
      );
      rows.splice(4, 0, row(resized.adapter, { promptIds: resized.ids, maxNewTokens: 6, arrives: 16 }));
      const read = rows.slice(0, 5).reduce((sum, { promptIds }) => sum + promptIds.length, 0);
      let failing: Promise<void> | undefined;
      let before = engine.stats();
      const outcomes = await run(engine, rows, () => {
        const now = engine.stats();
        const last = now.decodeSteps > before.decodeSteps ? 'decode' : 'prefill';
        before = now;
        const halfRead = now.prefillTokens > read && now.prefillTokens < read + rows[5]!.promptIds.length;
        const allThere = now.runningRows === 6 && now.waitingRows === 1;
        if (failing !== undefined || !halfRead || !allThere || last === next) return;
        failing = fail();
      });
      assert.ok(failing !== undefined, 'it failed while all of them were there');
      const wanted: (readonly number[])[] = asked.map(({ name, prompt }) => greedy(name, prompt));
      wanted.splice(4, 0, resized.greedy);
      for (const [i, { tokens, end }] of outcomes.entries()) {
        assert.equal(end!.cause, 'length', end!.message);
        assert.deepEqual(tokens, wanted[i], `row ${i}`);
      }
      assert.equal(backend.place.device, 'cpu');
      assert.match(backend.place.why, /could not be opened again: /);
      assert.equal(backend.broken, undefined);
      assert.equal(marked(), 1, 'opening the processor is no step that hangs');
      // Nothing is left of it on the device.
      assert.deepEqual(runner.model.device.usage, { buffers: 0, bytes: 0 });
      const { runMs, overheadMs, kvBytes } = engine.stats();
      assert.ok(runMs >= before.runMs && overheadMs > 0, `${runMs} and ${overheadMs} ms`);
      assert.equal(kvBytes, 0);
      await close();
    });
  }

  test('greedy steps hand out the largest logits only, on the device and on the processor', async (context) => {
    const { runner, bind, row, greedy, loop, fail, close } = await openFalling();
    const calls = (of: object, method: 'decode' | 'decodeGreedy') => context.mock.method(of as StepRunner, method).mock;
    const device = { greedy: calls(runner, 'decodeGreedy'), whole: calls(runner, 'decode') };
    const host = { greedy: calls(StepRunner.prototype, 'decodeGreedy'), whole: calls(StepRunner.prototype, 'decode') };
    const all = await bind('all-r8');
    const engine = await loop([all]);
    let failing: Promise<void> | undefined;
    const asked = { maxNewTokens: 16, sampling: { ...GREEDY, logprobs: 0 } };
    const outcomes = await run(engine, [row(all, asked), row(undefined, asked)], () => {
      if (engine.stats().decodeSteps > 4) failing ??= fail();
    });
    await failing;
    for (const [i, { tokens, logprobs }] of outcomes.entries()) {
      assert.deepEqual(tokens, greedy([`all-r8`, null][i]!).slice(0, 16));
      assert.ok(logprobs.every((logprob) => logprob! <= 0));
    }
    assert.ok(device.greedy.callCount() >= 4 && host.greedy.callCount() >= 4);
    assert.deepEqual([device.whole.callCount(), host.whole.callCount()], [0, 0]);
    engine.unload(all.digest);
    await close();
  });

  test('what comes afterwards is served as by the processor: adapters, prefixes, prompts read together, guesses', async () => {
    const { model, bind, row, greedy, loop, fail, close } = await openFalling();
    const [qv, all] = await Promise.all(['qv-r4', 'all-r8'].map(bind));
    const resized = await bindResized();
    const engine = await loop([qv!], { prefixBytes: 1 << 24, prefillChunk: 64, lookupTokens: 8 });
    const long = (adapter: BoundAdapter | undefined) => row(adapter, { promptIds: model.promptIds('p3') });
    const three = () => run(engine, [row(qv), row(qv), row(qv)]);
    const stepsOf = async (ask: () => Promise<unknown>) => {
      const { prefillSteps } = engine.stats();
      await ask();
      return engine.stats().prefillSteps - prefillSteps;
    };
    assert.equal(await stepsOf(three), 3);
    await run(engine, [long(qv)]);
    assert.notEqual(engine.stats().prefixBytes, 0);
    await fail();
    // A load that finds out; the adapter is on the processor when it ends.
    await engine.load(all!);
    const [first] = await run(engine, [long(qv)]);
    assert.equal(first!.end!.cachedTokens, 0);
    const outcomes = await run(engine, [long(qv), row(all), long(undefined)]);
    assert.notEqual(outcomes[0]!.end!.cachedTokens, 0);
    const wanted = [greedy('qv-r4', 'p3'), greedy('all-r8'), greedy(null, 'p3')];
    for (const [i, { tokens }] of outcomes.entries()) assert.deepEqual(tokens, wanted[i]!.slice(0, 6));
    assert.equal(await stepsOf(three), 1);
    // Few tokens to choose from: its text repeats itself.
    const sampling = { ...GREEDY, logitBias: new Map([5, 6, 7].map((id) => [id, 40])) };
    await run(engine, [row(undefined, { promptIds: [5, 6, 7, 5, 6, 7, 5, 6, 7, 5, 6], maxNewTokens: 24, sampling })]);
    const { guessesAccepted, guessesRejected } = engine.stats();
    assert.ok(guessesAccepted + guessesRejected > 0, 'tokens were guessed');
    await engine.load(resized.adapter);
    const [own] = await run(engine, [row(resized.adapter, { promptIds: resized.ids })]);
    assert.deepEqual(own!.tokens, resized.greedy);
    engine.unload(all!.digest);
    const [unknown] = await run(engine, [row(all)]);
    assert.equal(unknown!.end!.cause, 'error');
    assert.match(unknown!.end!.message!, /is not loaded/);
    for (const { digest } of [qv!, resized.adapter]) engine.unload(digest);
    await close();
  });

  test('loads and steps that fail together move the model once; a prompt that was scored in part ends', async () => {
    const { backend, model, bind, row, greedy, loop, fail, close } = await openFalling();
    const [qv, all, dora] = await Promise.all(['qv-r4', 'all-r8', 'dora'].map(bind));
    const engine = await loop([qv!]);
    const scored = { ...row(undefined, { promptIds: model.promptIds('p3') }), promptLogprobs: 1 };
    let loads: Promise<unknown> | undefined;
    const places = new Set([backend.place]);
    const outcomes = await run(engine, [row(qv, { maxNewTokens: 24 }), scored], () => {
      places.add(backend.place);
      // The first row is read, and the first chunk of the second.
      if (engine.stats().prefillTokens < model.promptIds('p0').length + 16) return;
      loads ??= fail().then(() => Promise.all([all!, dora!].map((adapter) => engine.load(adapter))));
    });
    await loads;
    assert.equal(places.size, 2);
    assert.deepEqual(outcomes[0]!.tokens, greedy('qv-r4'));
    assert.equal(outcomes[1]!.end!.reason, 'DEVICE_FAILED');
    assert.match(outcomes[1]!.end!.message!, /failed while the prompt was scored/);
    const [mine, other] = await run(engine, [row(all), row(dora)]);
    assert.deepEqual(mine!.tokens, greedy('all-r8').slice(0, 6));
    assert.deepEqual(other!.tokens, greedy('dora').slice(0, 6));
    await close();
  });
});

test('a row that is to be read again while the model still moves waits for that', { skip: noGpu }, async () => {
  const { bind, row, greedy, loop, fail, moving, close } = await openFalling();
  const [qv, all] = await Promise.all(['qv-r4', 'all-r8'].map(bind));
  const engine = await loop([qv!]);
  const asked = { ...row(qv, { maxNewTokens: 24 }), id: 1, endIds: [], submittedAt: 0 };
  assert.equal(engine.submit(asked), undefined);
  const got: number[] = [];
  const step = async () => {
    const { tokens, ends } = await engine.step();
    got.push(...tokens.map(({ token }) => token));
    for (const { cause, message } of ends) assert.equal(cause, 'length', message);
  };
  while (got.length < 5) await step();
  await fail();
  const loading = engine.load(all!);
  await moving;
  while (engine.busy) await step();
  await loading;
  assert.deepEqual(got, greedy('qv-r4'));
  await close();
});

describe('a device with 16-bit floats that fails for good', () => {
  test('the budget holds half as many positions then: rows that cannot have theirs any more are told so, others go on', async () => {
    const HALF = { half: true, bits: undefined } as const;
    const { backend, model, row, fail, close } = await openFalling({ precision: HALF, provider: 'cpu' });
    const bytes = backend.positionBytes;
    const limits = inPositions({ maxBatch: 8, prefillChunk: 16, kvBytes: 256 * bytes, stepBytes: 64 * bytes }, backend);
    const engine = new EngineLoop(backend, limits);
    assert.deepEqual([limits.maxPositions, limits.stepPositions], [256, 64]);
    const large = row(undefined, { promptIds: model.promptIds('p3'), maxNewTokens: 60 });
    const small = row(undefined, { maxNewTokens: 24, arrives: 1 });
    let failing: Promise<void> | undefined;
    let most = 0;
    const ask = (): Promise<Outcome[]> =>
      run(engine, [large, small, { ...large, arrives: 2 }], () => {
        if (backend.place.device === 'cpu') most = Math.max(most, engine.stats().kvBytes);
        if (engine.stats().decodeSteps > 4) failing ??= fail();
      });
    const outcomes = await ask();
    await failing;
    assert.deepEqual([limits.maxPositions, limits.stepPositions], [128, 32]);
    for (const i of [0, 2]) {
      assert.equal(outcomes[i]!.end!.reason, 'KV_EXHAUSTED');
      assert.match(outcomes[i]!.end!.message!, /151 tokens needs 160 cache positions, the budget holds 128/);
    }
    assert.equal(outcomes[1]!.end!.cause, 'length');
    assert.equal(outcomes[1]!.tokens.length, 24);
    // Refused at once from now on.
    const [refused, next] = await ask();
    assert.equal(refused!.end!.reason, 'KV_EXHAUSTED');
    assert.deepEqual(refused!.tokens, []);
    assert.equal(next!.end!.cause, 'length');
    assert.ok(most > 0 && most <= 256 * bytes, `${most} bytes`);
    await close();
  });
});

test('prompts that are read together when their store is lost are read again', async () => {
  const model = await openGolden('llama', ['base']);
  const { runner } = model;
  const prefillTogether = runner.prefillTogether.bind(runner);
  let calls = 0;
  runner.prefillTogether = (...args) => {
    calls += 1;
    return calls === 1 ? Promise.reject(new StoreLost('gone')) : prefillTogether(...args);
  };
  const engine = new EngineLoop(runner, LIMITS);
  const row = { promptIds: model.promptIds('p2'), selection: [], sampling: GREEDY, maxNewTokens: 6, arrives: 0 };
  for (const { tokens } of await run(engine, [row, row, row]))
    assert.deepEqual(tokens, model.expected(null).p2!.greedy.slice(0, 6));
  assert.equal(calls, 2);
  assert.equal(engine.stats().kvBytes, 0);
  await model.close();
});

describe('models opened on a device that fails for good', { skip: noGpu }, async () => {
  const place = mkdtempSync(join(tmpdir(), 'loramux-device-'));
  process.env.LORAMUX_TEST_DEVICE = join(place, 'device');
  const provider: string = './failing-provider.mjs';
  await import(provider);
  after(() => rmSync(place, { recursive: true }));
  const fate = (state: 'well' | 'gone') => writeFileSync(process.env.LORAMUX_TEST_DEVICE!, state);

  for (const { dtype, fallback, message } of [
    { dtype: 'fp32', fallback: true, message: undefined },
    { dtype: 'int8', fallback: true, message: undefined },
    { dtype: 'fp32', fallback: false, message: /could not be opened again: Failed to get a WebGPU adapter$/ },
    {
      dtype: 'int4',
      fallback: true,
      message: /opened again: .*; and the model cannot go on elsewhere: dtype int4 is for GPUs.*; int8 would be right/,
    },
  ] as const) {
    const asked = `${dtype}, ${fallback ? 'the processor allowed' : 'the device insisted on'}`;
    test(`${asked}: it ${message === undefined ? 'goes on there' : 'is at its end, with the reason'}`, async () => {
      fate('well');
      const folder = await openModelFolder(`${GOLDEN}models/llama`);
      const device = { device: 'webgpu', fallback, why: 'a card was found' } as const;
      const opened = await openOnDevice(folder, { dtype, device, threads: 1, lora: true });
      const { backend } = opened;
      assert.equal(opened.device, 'webgpu');
      const engine = new EngineLoop(backend, LIMITS);
      const row = { promptIds: [1, 2, 3], selection: [], maxNewTokens: 12, arrives: 0 };
      const rows = [{ ...row, sampling: GREEDY }];
      const [whole] = await run(engine, rows);
      let steps = 0;
      const [cut] = await run(engine, rows, () => {
        steps += 1;
        if (steps === 4) fate('gone');
      });
      if (message === undefined) {
        assert.equal(cut!.end!.cause, 'length');
        // The processor's int8 rounds activations, too: what was told stands, what follows may be another text.
        const same = dtype === 'fp32' ? 12 : 4;
        assert.deepEqual(cut!.tokens.slice(0, same), whole!.tokens.slice(0, same));
        assert.equal(cut!.tokens.length, 12);
        assert.equal(backend.broken, undefined);
        assert.equal(backend.place!.device, 'cpu');
        assert.match(backend.place!.why, /^a card was found, but the device failed: .*opened again: Failed to get/);
      } else {
        assert.equal(cut!.end!.reason, 'DEVICE_FAILED');
        assert.match(backend.broken!.message, message);
        const adapter = { digest: 'any' } as BoundAdapter;
        await assert.rejects(backend.load(adapter), { reason: 'DEVICE_FAILED' });
      }
      await backend.close();
      await folder.close();
    });
  }
});
