/**
 * A head that config.json ties to the embedding, as the weight files have it. transformers goes by the files: where they
 * hold two tables that differ, each is used, and where they hold one of them under either name, both modules have it.
 */
import type { Checkpoint } from './checkpoint.js';
import type { DecoderSpec } from './spec.js';

/** The decoder with the tables that its modules really have. */
export async function withStoredHead(spec: DecoderSpec, checkpoint: Checkpoint): Promise<DecoderSpec> {
  const { head, embedding } = spec;
  const weight = `${head.linear.module}.weight`;
  if (!head.tied || !checkpoint.has(weight)) return spec;
  const linear = { ...head.linear, weight };
  if (!checkpoint.has(embedding.weight)) {
    return { ...spec, embedding: { ...embedding, weight }, head: { ...head, linear } };
  }
  if ((await checkpoint.areEqual?.(weight, embedding.weight)) !== false) return spec;
  return { ...spec, head: { ...head, linear, tied: false, apart: true } };
}
