/**
 * Golden models on the WebGPU provider. SwiftShader is enough: `VK_ICD_FILENAMES` names the vk_swiftshader_icd.json of
 * Debian's chromium-common. Without a Vulkan device that the provider accepts, tests skip with the reason.
 */
import assert from 'node:assert/strict';
import type { BoundAdapter } from '../../server/adapters/types.js';
import { EmbeddingTable } from '../../server/engine/embedding-table.js';
import { EngineLoop, type LoopLimits } from '../../server/engine/engine-loop.js';
import type { GpuModelOptions } from '../../server/engine/webgpu/gpu-model.js';
import { GpuRunner } from '../../server/engine/webgpu/gpu-runner.js';
import { supportsHalf } from '../../server/engine/webgpu/half-support.js';
import type { GraphVariant } from '../../server/model/graph-sites.js';
import { type GoldenModel, openGolden } from '../engine/golden-model.js';
import { GREEDY, LIMITS, run, type TestRow } from '../engine/loop-run.js';

/** Why GPU tests are skipped here; false = they run. */
export const noGpu: string | false = await supportsHalf().then(
  () => false as const,
  (error: Error) => `no WebGPU device: ${error.message.split('\n')[0]}`,
);

/** True: all golden models with all their adapters, instead of some that between them use every part of the graphs. */
export const everything = process.env.LORAMUX_TEST_GPU === 'all';

export const FP32 = { half: false, bits: undefined } as const;

/** What Dawn says of a lost device. */
export const LOST = new Error('WebGPU device lost (2): gone');

/** From now on the graph answers that the device is lost, until the model is on a new one. */
export async function loseDevice(runner: GpuRunner, variant: GraphVariant): Promise<void> {
  const { session } = await runner.model.graph(variant);
  (session as { run: unknown }).run = () => Promise.reject(LOST);
}

/** A golden model without sessions on the processor, and its runner on the device. */
export interface GpuGolden {
  readonly model: GoldenModel;
  readonly runner: GpuRunner;
  close(): Promise<void>;
}

/** @param layers cut off the decoder after so many; then it has no meaning, and no expected answers */
export async function openGpuGolden(
  name: string,
  options: Partial<GpuModelOptions> = {},
  layers?: number,
): Promise<GpuGolden> {
  const model = await openGolden(name, []);
  const { spec } = model.folder;
  const folder = { ...model.folder, spec: { ...spec, layers: spec.layers.slice(0, layers) } };
  const runner = await GpuRunner.open(folder, await EmbeddingTable.read(model.folder), {
    precision: FP32,
    adapterBytes: 1 << 28,
    ...options,
  });
  return {
    model,
    runner,
    close: async () => {
      await runner.close();
      await model.close();
    },
  };
}

/** What tests of rows do with an opened model: read its adapters, describe rows, know their tokens, run them. */
export function goldenRows(opened: () => GpuGolden) {
  const bind = (name: string) => opened().model.adapter(opened().model.golden.adapters[name]!.path);
  const row = (adapter: BoundAdapter | undefined, more: Partial<TestRow> = {}): TestRow => ({
    promptIds: opened().model.promptIds('p0'),
    selection: adapter === undefined ? [] : [{ digest: adapter.digest, weight: 1 }],
    sampling: GREEDY,
    maxNewTokens: 6,
    arrives: 0,
    ...more,
  });
  const greedy = (name: string | null, prompt = 'p0') => opened().model.expected(name)[prompt]!.greedy;
  const loop = async (adapters: readonly BoundAdapter[], limits: Partial<LoopLimits> = {}) => {
    const engine = new EngineLoop(opened().runner, { ...LIMITS, ...limits });
    for (const adapter of adapters) await engine.load(adapter);
    return engine;
  };
  /** Rows of the adapters, the base, and the adapters again arrive, leave and are cancelled: each gets its own tokens. */
  const crowd = async (names: readonly string[]): Promise<void> => {
    const adapters = await Promise.all(names.map(bind));
    const engine = await loop(adapters, { maxBatch: 4 });
    const rows = [...adapters, undefined, ...adapters].map((adapter, i) =>
      row(adapter, {
        promptIds: opened().model.promptIds(i % 2 === 0 ? 'p0' : 'p1'),
        arrives: (i * 3) % 7,
        maxNewTokens: 3 + (i % 5),
        ...(i % 4 === 3 && { cancelled: ((i * 3) % 7) + 2 }),
      }),
    );
    for (const [i, { tokens, end }] of (await run(engine, rows)).entries()) {
      const name = [...names, null, ...names][i]!;
      assert.ok(end!.cause === 'length' || end!.cause === 'cancelled', end!.message);
      assert.deepEqual(tokens, greedy(name, i % 2 === 0 ? 'p0' : 'p1').slice(0, tokens.length), `row ${i}`);
    }
    for (const { digest } of adapters) engine.unload(digest);
  };
  return { bind, row, greedy, loop, crowd };
}
