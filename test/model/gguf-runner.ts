/** Opens a model file or folder as the engine worker does, and computes logits with it. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { openSafetensors } from '../../server/adapters/safetensors.js';
import type { BoundAdapter } from '../../server/adapters/types.js';
import { type Dtype, SessionFactory } from '../../server/engine/decoder-session.js';
import { EmbeddingTable } from '../../server/engine/embedding-table.js';
import { KvStore } from '../../server/engine/kv-store.js';
import { combine } from '../../server/engine/row-adapter.js';
import { activationPoint, spansOf } from '../../server/engine/row-spans.js';
import { StepRunner } from '../../server/engine/step-runner.js';
import type { GraphVariant } from '../../server/model/graph-sites.js';
import type { ModelFolder } from '../../server/model/model-folder.js';
import { GOLDEN, type GoldenFile } from '../engine/golden-model.js';

export const FIXTURES = fileURLToPath(new URL('../fixtures/gguf/', import.meta.url));

/** Logits of every position, [prompt, vocab], of a model under an adapter. */
export type Logits = (ids: readonly number[], adapter?: BoundAdapter) => Promise<Float32Array>;

export async function logitsOf(
  folder: ModelFolder,
  variants: readonly GraphVariant[] = ['base'],
  dtype: Dtype = 'fp32',
): Promise<Logits> {
  const factory = await SessionFactory.create(folder, dtype);
  const runner = new StepRunner(folder.spec, await EmbeddingTable.read(folder), []);
  for (const variant of variants) runner.addSession(await factory.open(variant, 2));
  return async (ids, adapter) => {
    const selection = adapter === undefined ? [] : [{ adapter, weight: 1, from: activationPoint(adapter, ids) }];
    const spans = spansOf(selection, (active) => combine(active));
    const store = new KvStore(runner.spec.layers.length, runner.kvWidth, 1, ids.length);
    const parts: Float32Array[] = [];
    for (const [i, span] of (spans.length === 0 ? [{ from: 0, adapter: combine([]) }] : spans).entries()) {
      const chunk = ids.slice(span.from, spans[i + 1]?.from);
      const rows = chunk.map((_, at) => at);
      parts.push((await runner.prefill(chunk, span.from, store, span.adapter, rows)).slice());
    }
    const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  };
}

/** The largest difference between logits and those that PyTorch computed, over all prompts of a golden case. */
export async function goldenError(
  model: string,
  adapterName: string | null,
  logits: (ids: readonly number[]) => Promise<Float32Array>,
) {
  const golden = JSON.parse(readFileSync(`${GOLDEN}golden/${model}/golden.json`, 'utf8')) as GoldenFile;
  const tensors = await openSafetensors(`${GOLDEN}golden/${model}/golden.safetensors`);
  let worst = 0;
  const cases = adapterName === null ? golden.base : golden.adapters[adapterName]!.prompts!;
  for (const [id, wanted] of Object.entries(cases)) {
    const computed = await logits(golden.prompts.find((prompt) => prompt.id === id)!.token_ids);
    const reference = await tensors.readFloat32((wanted.logits ?? wanted.last)!);
    worst = Math.max(worst, largestDifference(computed.subarray(-reference.length), reference));
  }
  await tensors.close();
  return worst;
}

/** Infinity where the lengths differ or a value is not finite. */
export function largestDifference(a: Float32Array, b: Float32Array): number {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY;
  let worst = 0;
  for (let i = 0; i < a.length; i += 1) {
    const difference = Math.abs(a[i]! - b[i]!);
    if (!(difference < Number.POSITIVE_INFINITY)) return Number.POSITIVE_INFINITY;
    if (difference > worst) worst = difference;
  }
  return worst;
}
