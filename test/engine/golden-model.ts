/** Opens a golden model the way the engine worker does, and reads what PyTorch computed with it. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { flattenReplaced } from '../../server/adapters/flatten.js';
import { readAdapterFolder } from '../../server/adapters/read-adapter.js';
import { openSafetensors, type SafetensorsFile } from '../../server/adapters/safetensors.js';
import type { BoundAdapter } from '../../server/adapters/types.js';
import { type Dtype, SessionFactory } from '../../server/engine/decoder-session.js';
import { EmbeddingTable } from '../../server/engine/embedding-table.js';
import { StepRunner } from '../../server/engine/step-runner.js';
import type { GraphVariant } from '../../server/model/graph-sites.js';
import { type ModelFolder, openModelFolder } from '../../server/model/model-folder.js';
import { adapterBaseOf } from '../../server/model/module-table.js';

export const GOLDEN = fileURLToPath(new URL('../../../shared/golden/', import.meta.url));
export const GOLDEN_MODELS = ['llama', 'llama-rope3', 'mistral', 'qwen2', 'qwen3', 'gemma', 'gpt2'] as const;

/** What golden.json says of one prompt under one adapter. */
export interface GoldenCase {
  readonly logits?: string;
  readonly last?: string;
  readonly greedy: readonly number[];
}

export interface GoldenFile {
  readonly prompts: readonly { readonly id: string; readonly text: string; readonly token_ids: readonly number[] }[];
  readonly base: Readonly<Record<string, GoldenCase>>;
  readonly adapters: Readonly<
    Record<
      string,
      { path: string; exercises: string; policy: string; same_as?: string; prompts?: Record<string, GoldenCase> }
    >
  >;
  readonly weighted: readonly {
    combination_type: string;
    adapters: string[];
    weights: number[];
    prompts: Record<string, GoldenCase>;
  }[];
  readonly mixed_batches: readonly { rows: { prompt: string; adapter: string | null }[] }[];
}

export interface GoldenModel {
  readonly name: string;
  readonly folder: ModelFolder;
  readonly runner: StepRunner;
  readonly golden: GoldenFile;
  readonly tensors: SafetensorsFile;
  /** Steps by the graph that ran them. */
  readonly steps: Map<GraphVariant, number>;
  /** Binds one of the golden adapters. */
  adapter(path: string): Promise<BoundAdapter>;
  /** What PyTorch computed for an adapter, following `same_as`. */
  expected(adapter: string | null): Record<string, GoldenCase>;
  promptIds(id: string): readonly number[];
  close(): Promise<void>;
}

/** @param worthPieces Infinity = rows of several selections always run in pieces, if that graph is among the variants */
export async function openGolden(
  name: string,
  variants: readonly GraphVariant[] = ['base', 'lora', 'full'],
  dtype: Dtype = 'fp32',
  worthPieces?: number,
): Promise<GoldenModel> {
  const golden = JSON.parse(readFileSync(`${GOLDEN}golden/${name}/golden.json`, 'utf8')) as GoldenFile;
  const tensors = await openSafetensors(`${GOLDEN}golden/${name}/golden.safetensors`);
  const folder = await openModelFolder(`${GOLDEN}models/${name}`);
  const factory = await SessionFactory.create(folder, dtype);
  const runner = new StepRunner(folder.spec, await EmbeddingTable.read(folder), [], undefined, worthPieces);
  const steps = new Map<GraphVariant, number>();
  for (const variant of variants) {
    const { graph, run } = await factory.open(variant, 1);
    const counted: typeof run = (...args) => {
      steps.set(variant, (steps.get(variant) ?? 0) + 1);
      return run(...args);
    };
    runner.addSession({ graph, run: counted });
  }
  const base = adapterBaseOf(folder);
  const expected = (adapter: string | null): Record<string, GoldenCase> => {
    if (adapter === null) return golden.base;
    const entry = golden.adapters[adapter]!;
    return entry.prompts ?? expected(entry.same_as!);
  };
  return {
    name,
    folder,
    runner,
    golden,
    tensors,
    steps,
    adapter: async (path) => flattenReplaced(await readAdapterFolder(`${GOLDEN}${path}`, base), base),
    expected,
    promptIds: (id) => golden.prompts.find((prompt) => prompt.id === id)!.token_ids,
    close: async () => {
      await tensors.close();
      await folder.close();
    },
  };
}

/** Largest absolute difference between computed logits [positions, vocab] and the stored ones (all or the last position). */
export async function logitError(model: GoldenModel, wanted: GoldenCase, computed: Float32Array): Promise<number> {
  const reference = await model.tensors.readFloat32((wanted.logits ?? wanted.last)!);
  const own = wanted.logits === undefined ? computed.subarray(-reference.length) : computed;
  if (own.length !== reference.length) return Number.POSITIVE_INFINITY;
  let worst = 0;
  for (let i = 0; i < own.length; i += 1) worst = Math.max(worst, Math.abs(own[i]! - reference[i]!));
  return Number.isNaN(worst) ? Number.POSITIVE_INFINITY : worst;
}
