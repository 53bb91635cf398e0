/** How many nodes a decode step runs on a WebGPU device, counted by onnxruntime's own profile. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BoundAdapter } from '../server/adapters/types.js';
import { EmbeddingTable } from '../server/engine/embedding-table.js';
import { BASE_ROW, combine } from '../server/engine/row-adapter.js';
import { GpuRunner } from '../server/engine/webgpu/gpu-runner.js';
import type { ModelFolder } from '../server/model/model-folder.js';
import type { GpuPrecision } from '../server/model/webgpu/gpu-precision.js';

/** Nodes of one step. */
export interface DispatchCount {
  readonly total: number;
  /** Those of one layer: what a decoder with one layer less does not run. */
  readonly perLayer: number;
}

/**
 * Profiles a decode step of `rows` rows, the i-th with adapter i modulo their number; no adapters = base rows. A node is
 * at least one dispatch; those that need none, such as Reshape, are not counted.
 */
export async function countDispatches(
  folder: ModelFolder,
  adapters: readonly BoundAdapter[],
  rows: number,
  precision: GpuPrecision,
): Promise<DispatchCount> {
  const { layers } = folder.spec;
  const total = await countWith(folder, adapters, rows, precision);
  const shorter = { ...folder, spec: { ...folder.spec, layers: layers.slice(0, -1) } };
  const last = new RegExp(`\\.${layers.length - 1}\\.`);
  const cut = adapters.map((adapter) => ({
    ...adapter,
    linears: adapter.linears.filter(({ module }) => !last.test(module)),
  }));
  return { total, perLayer: total - (await countWith(shorter, cut, rows, precision)) };
}

/** Operators that give a buffer another shape and run nothing. */
const FREE = new Set(['Reshape', 'Squeeze', 'Unsqueeze', 'Flatten', 'Identity']);

async function countWith(
  folder: ModelFolder,
  adapters: readonly BoundAdapter[],
  rows: number,
  precision: GpuPrecision,
): Promise<number> {
  const place = mkdtempSync(join(tmpdir(), 'loramux-profile-'));
  try {
    const runner = await GpuRunner.open(folder, await EmbeddingTable.read(folder), {
      precision,
      adapterBytes: Number.POSITIVE_INFINITY,
      session: { enableProfiling: true, profileFilePrefix: join(place, 'step') },
    });
    for (const adapter of adapters) await runner.load(adapter);
    const store = runner.createStore(rows, 16);
    const slots = Array.from({ length: rows }, (_, i) => ({
      token: 1,
      length: 0,
      adapter: adapters.length === 0 ? BASE_ROW : combine([{ adapter: adapters[i % adapters.length]!, weight: 1 }]),
      horizon: 16,
    }));
    const steps = 2;
    for (let step = 0; step < steps; step += 1) await runner.decode(slots, store);
    store.release();
    // Sessions write their profiles when they end.
    await runner.close();
    let nodes = 0;
    for (const file of readdirSync(place)) {
      for (const { cat, name, args } of JSON.parse(readFileSync(join(place, file), 'utf8')) as ProfileEvent[]) {
        if (cat === 'Node' && name.endsWith('_kernel_time') && !FREE.has(args?.op_name ?? '')) nodes += 1;
      }
    }
    return nodes / steps;
  } finally {
    rmSync(place, { recursive: true });
  }
}

interface ProfileEvent {
  readonly cat: string;
  readonly name: string;
  readonly args?: { readonly op_name?: string };
}
