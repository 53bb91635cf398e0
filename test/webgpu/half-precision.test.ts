/**
 * 16-bit floats against PyTorch's float32. The graphs are those of a device with shader-f16; onnxruntime's processor
 * provider runs them, which rounds to 16 bits where the graph says so and computes what it has no kernel for in float32.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { flattenReplaced } from '../../server/adapters/flatten.js';
import { readAdapterFolder } from '../../server/adapters/read-adapter.js';
import type { BoundAdapter } from '../../server/adapters/types.js';
import { EmbeddingTable } from '../../server/engine/embedding-table.js';
import { EngineLoop } from '../../server/engine/engine-loop.js';
import { chooseFloats } from '../../server/engine/webgpu/choose-floats.js';
import { GpuRunner } from '../../server/engine/webgpu/gpu-runner.js';
import { openModelFolder } from '../../server/model/model-folder.js';
import { adapterBaseOf } from '../../server/model/module-table.js';
import { GOLDEN_MODELS, type GoldenModel } from '../engine/golden-model.js';
import { GREEDY, LIMITS, run } from '../engine/loop-run.js';
import { worstErrors } from './golden-errors.js';
import { openGpuGolden } from './gpu-golden.js';

const DEMO = fileURLToPath(new URL('../../models/demo/', import.meta.url));

/** What PyTorch answered, as tools/demo writes it. */
interface Expected {
  readonly max_new_tokens: number;
  readonly cases: readonly { readonly adapter: string; readonly prompt_ids: number[]; readonly ids: number[] }[];
}

const HALF = { half: true, bits: undefined } as const;
/** Bound on a logit of the golden models, whose largest are about 10. Measured: 0.065 at most. */
const TOLERANCE = 0.1;

describe('16-bit floats on the processor provider', () => {
  for (const name of GOLDEN_MODELS) {
    test(`${name}: base and adapters are within what 16 bits hold, alone and in a mixed batch`, async () => {
      const { model, runner, close } = await openGpuGolden(name, { precision: HALF, provider: 'cpu' });
      const worst = await worstErrors({ model, runner }, await adaptersOf(model));
      assert.ok(worst.alone <= TOLERANCE && worst.batch <= TOLERANCE, JSON.stringify(worst));
      await close();
    });
  }
});

test('a position takes half the bytes that it takes in 32-bit floats, so a budget holds twice as many', async () => {
  const { model, runner, close } = await openGpuGolden('qwen3', { precision: HALF, provider: 'cpu' });
  for (const backend of [runner, model.runner]) {
    const store = backend.createStore(2, 64);
    assert.equal(store.bytes, 2 * 64 * backend.positionBytes);
    store.release();
  }
  assert.equal(runner.positionBytes * 2, model.runner.positionBytes);
  await close();
});

test('the demo model with 16-bit floats gives the tokens of PyTorch, all its adapters in one queue', async () => {
  const expected = JSON.parse(readFileSync(`${DEMO}expected.json`, 'utf8')) as Expected;
  const folder = await openModelFolder(DEMO);
  const options = { precision: HALF, provider: 'cpu', adapterBytes: 1 << 28 } as const;
  const runner = await GpuRunner.open(folder, await EmbeddingTable.read(folder), options);
  const engine = new EngineLoop(runner, LIMITS);
  const base = adapterBaseOf(folder);
  const digests = new Map<string, string>();
  for (const name of new Set(expected.cases.map(({ adapter }) => adapter))) {
    if (name === 'base') continue;
    const adapter = await flattenReplaced(await readAdapterFolder(`${DEMO}adapters/${name}`, base), base);
    await engine.load(adapter);
    digests.set(name, adapter.digest);
  }
  const outcomes = await run(
    engine,
    expected.cases.map(({ adapter, prompt_ids: promptIds }, i) => ({
      promptIds,
      selection: adapter === 'base' ? [] : [{ digest: digests.get(adapter)!, weight: 1 }],
      sampling: GREEDY,
      maxNewTokens: expected.max_new_tokens,
      arrives: i % 5,
    })),
  );
  let equal = 0;
  for (const [i, { tokens, end }] of outcomes.entries()) {
    assert.notEqual(end?.cause, 'error', end?.message);
    const { ids } = expected.cases[i]!;
    // The file's answers end where the sequence does; rows here do not stop.
    if (ids.every((id, at) => id === tokens[at])) equal += 1;
  }
  assert.equal(equal, outcomes.length);
  await runner.close();
  await folder.close();
});

test('floats are chosen by the setting, the weights and the device', () => {
  const floats = (...[setting, dtype, half]: Parameters<typeof chooseFloats>) =>
    chooseFloats(setting, dtype, half).floats;
  assert.deepEqual([floats('auto', 'int8', true), floats('auto', 'int4', true)], ['fp16', 'fp16']);
  assert.deepEqual([floats('auto', 'int8', false), floats('auto', 'fp32', true)], ['fp32', 'fp32']);
  assert.deepEqual([floats('fp32', 'int8', true), floats('fp16', 'fp32', true)], ['fp32', 'fp16']);
  assert.throws(() => chooseFloats('fp16', 'int8', false), /--device-floats fp16: the device has no shader-f16/);
});

/** The base and the adapters that apply from a row's start. */
async function adaptersOf(model: GoldenModel): Promise<(readonly [string | null, BoundAdapter | undefined])[]> {
  const all: [string | null, BoundAdapter | undefined][] = [[null, undefined]];
  for (const [name, { path, policy }] of Object.entries(model.golden.adapters)) {
    if (policy !== 'load') continue;
    const adapter = await model.adapter(path);
    if (adapter.invocationTokens === undefined) all.push([name, adapter]);
  }
  return all;
}
