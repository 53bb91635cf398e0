/** What a decode step runs on a WebGPU device, counted by onnxruntime's own profile. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BoundAdapter } from '../server/adapters/types.js';
import { EmbeddingTable } from '../server/engine/embedding-table.js';
import { BASE_ROW, combine } from '../server/engine/row-adapter.js';
import type { KvSetting } from '../server/engine/webgpu/choose-attention.js';
import { GpuDevice } from '../server/engine/webgpu/gpu-device.js';
import type { GpuModelOptions } from '../server/engine/webgpu/gpu-model.js';
import { GpuPicks } from '../server/engine/webgpu/gpu-picks.js';
import { GpuRunner } from '../server/engine/webgpu/gpu-runner.js';
import type { ModelFolder } from '../server/model/model-folder.js';
import type { GpuPrecision } from '../server/model/webgpu/gpu-precision.js';

/** What one step runs. */
export interface StepProfile {
  /** Shaders that the device was given; 0 where it has no clock for them (WebGPU's `timestamp-query`). */
  readonly dispatches: number;
  /** Nodes of the graph, but for those that run nothing, such as Reshape. */
  readonly nodes: number;
  /** Nodes that ran anywhere but on the device, by operator. */
  readonly elsewhere: readonly string[];
}

/** What one step runs, and what of it is one layer's: what a decoder with one layer less does not run. */
export interface DispatchCount {
  readonly total: StepProfile;
  readonly layer: Pick<StepProfile, 'dispatches' | 'nodes'>;
}

/**
 * Profiles decode steps of `rows` rows.
 * @param cases adapters of each step, in turns over its rows; none = base rows. Each must take another graph of the model
 * (base, lora, full), as it is the graphs that are profiled.
 */
export async function countDispatches(
  folder: ModelFolder,
  cases: readonly (readonly BoundAdapter[])[],
  rows: number,
  precision: GpuPrecision,
  kv: KvSetting = 'plain',
): Promise<DispatchCount[]> {
  const { layers } = folder.spec;
  const last = new RegExp(`\\.${layers.length - 1}\\.`);
  const cut = (adapter: BoundAdapter): BoundAdapter => ({
    ...adapter,
    linears: adapter.linears.filter(({ module }) => !last.test(module)),
    norms: new Map([...adapter.norms].filter(([module]) => !last.test(module))),
  });
  const totals = await profileSteps(folder, cases, rows, precision, kv);
  const shorter = shortened(folder, layers.length - 1);
  const others = await profileSteps(
    shorter,
    cases.map((adapters) => adapters.map(cut)),
    rows,
    precision,
    kv,
  );
  return totals.map((total, i) => {
    const { dispatches, nodes } = others[i]!;
    return { total, layer: { dispatches: total.dispatches - dispatches, nodes: total.nodes - nodes } };
  });
}

/** What finding the largest logits of `rows` greedy rows runs besides their step. */
export async function countPicks(vocabSize: number, rows: number): Promise<StepProfile> {
  return withProfiles(async (session, profile) => {
    const device = new GpuDevice();
    const picks = await GpuPicks.open(device, vocabSize, session('picks'));
    const logits = await device.zeros('float32', [rows, vocabSize]);
    for (let step = 0; step < STEPS; step += 1) await picks.of(logits);
    await device.close();
    return profile('picks');
  });
}

/** The model without its layers from `count` on. It has no meaning any more, but the same step. */
export function shortened(folder: ModelFolder, count: number): ModelFolder {
  return { ...folder, spec: { ...folder.spec, layers: folder.spec.layers.slice(0, count) } };
}

/** Operators that give a buffer another shape and run nothing. */
const FREE = new Set(['Reshape', 'Squeeze', 'Unsqueeze', 'Flatten', 'Identity']);

/** Steps of each case: the first of a session is as good as any other, as compiling is no dispatch. */
const STEPS = 2;

async function profileSteps(
  folder: ModelFolder,
  cases: readonly (readonly BoundAdapter[])[],
  rows: number,
  precision: GpuPrecision,
  kv: KvSetting,
): Promise<StepProfile[]> {
  return withProfiles(async (session, profile) => {
    const options = { precision, kv, adapterBytes: Number.POSITIVE_INFINITY, session };
    const runner = await GpuRunner.open(folder, await EmbeddingTable.read(folder), options);
    const store = runner.createStore(rows, 16);
    const variants: string[] = [];
    for (const adapters of cases) {
      for (const adapter of adapters) await runner.load(adapter);
      const choices = adapters.map((adapter) => combine([{ adapter, weight: 1 }]));
      const slots = Array.from({ length: rows }, (_, i) => ({
        ...{ token: 1, length: 0, horizon: 16 },
        adapter: choices[i % choices.length] ?? BASE_ROW,
      }));
      for (let step = 0; step < STEPS; step += 1) await runner.decode(slots, store);
      const full = choices.some(({ needsFullGraph }) => needsFullGraph);
      variants.push(adapters.length === 0 ? 'base' : full ? 'full' : 'lora');
    }
    store.release();
    await runner.close();
    return variants.map(profile);
  });
}

type SessionOptions = NonNullable<GpuModelOptions['session']>;

/**
 * Runs with sessions that are profiled.
 * @param run `profile` reads what a graph ran when the sessions have ended: they write their profiles then
 */
async function withProfiles<T>(
  run: (session: SessionOptions, profile: (graph: string) => StepProfile) => Promise<T>,
): Promise<T> {
  const place = mkdtempSync(join(tmpdir(), 'loramux-profile-'));
  try {
    return await run(
      (graph) => ({ enableProfiling: true, profileFilePrefix: join(place, graph) }),
      (graph) => {
        const file = readdirSync(place).find((name) => name.startsWith(graph))!;
        return counted(JSON.parse(readFileSync(join(place, file), 'utf8')) as ProfileEvent[]);
      },
    );
  } finally {
    rmSync(place, { recursive: true });
  }
}

function counted(events: readonly ProfileEvent[]): StepProfile {
  const nodes = events.filter(({ cat, name }) => cat === 'Node' && name.endsWith('_kernel_time'));
  return {
    // The provider notes each shader under the names of its node, its operator and itself.
    dispatches: events.filter(({ cat, name }) => cat === 'Api' && name.split('&').length === 3).length / STEPS,
    nodes: nodes.filter(({ args }) => !FREE.has(args?.op_name ?? '')).length / STEPS,
    elsewhere: nodes
      .filter(({ args }) => args?.provider !== 'WebGpuExecutionProvider')
      .map(({ args }) => args?.op_name ?? ''),
  };
}

interface ProfileEvent {
  readonly cat: string;
  readonly name: string;
  readonly args?: { readonly op_name?: string; readonly provider?: string };
}
