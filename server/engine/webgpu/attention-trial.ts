/** Blocks of new tokens for trying an attention kernel on the device at hand, and what the host's arithmetic makes of them. */
import type { DecoderSpec } from '../../model/spec.js';

export type Heads = Pick<DecoderSpec, 'queryHeads' | 'kvHeads' | 'headDim'>;

/** Factor of the scores. */
export const SCALE = 0.3;

/** The most new tokens for which the provider takes its kernels for short blocks. */
const SHORT = 31;
/** Blocks of new tokens that follow each other in a row. */
const SHORT_BLOCKS: readonly number[] = [20, SHORT, 1, 8];
const LONG_BLOCKS: readonly number[] = [40, 1, 33];

const TOLERANCE = { float32: 1e-4, float16: 2e-2 } as const;

/** New tokens of a row that has `past` positions: float32 [tokens, heads * headDim] each. */
export interface TrialBlock {
  readonly past: number;
  readonly tokens: number;
  readonly queries: Float32Array;
  readonly keys: Float32Array;
  readonly values: Float32Array;
}

/** Positions that the blocks take together. */
export const positionsOf = (blocks: readonly number[]): number => blocks.reduce((sum, tokens) => sum + tokens, 0);

/**
 * Most new tokens of a row in one run of a kernel; 0 = it is of no use.
 * @param right whether it gives what it should for blocks that follow each other in a row
 */
export async function mostTokens(right: (blocks: readonly number[]) => Promise<boolean>): Promise<number> {
  if (!(await right(SHORT_BLOCKS))) return 0;
  return (await right(LONG_BLOCKS)) ? Number.POSITIVE_INFINITY : SHORT;
}

/**
 * Whether a kernel gives what it should for blocks that follow each other in a row.
 * @param window most positions that a token sees; undefined = all
 * @param run the kernel: [tokens, queryHeads * headDim]
 */
export async function agrees(
  heads: Heads,
  type: 'float32' | 'float16',
  blocks: readonly number[],
  window: number | undefined,
  run: (block: TrialBlock) => Promise<Float32Array>,
): Promise<boolean> {
  const { queryHeads, kvHeads, headDim } = heads;
  const history = {
    keys: new Float32Array(positionsOf(blocks) * kvHeads * headDim),
    values: new Float32Array(positionsOf(blocks) * kvHeads * headDim),
  };
  let past = 0;
  for (const tokens of blocks) {
    const waves = (width: number, shift: number) =>
      Float32Array.from({ length: tokens * width }, (_, i) => Math.sin((past * width + i) * 0.7 + shift));
    const queries = waves(queryHeads * headDim, 0);
    const keys = waves(kvHeads * headDim, 1);
    const values = waves(kvHeads * headDim, 2);
    const got = await run({ past, tokens, queries, keys, values });
    history.keys.set(keys, past * kvHeads * headDim);
    history.values.set(values, past * kvHeads * headDim);
    const wanted = attend(heads, queries, history, past, window);
    if (!wanted.every((value, i) => Math.abs(value - got[i]!) <= TOLERANCE[type])) return false;
    past += tokens;
  }
  return true;
}

/** What new tokens see, the i-th of them being at position `past + i`: [tokens, queryHeads * headDim]. */
function attend(
  { queryHeads, kvHeads, headDim }: Heads,
  queries: Float32Array,
  { keys, values }: { keys: Float32Array; values: Float32Array },
  past: number,
  window = Number.POSITIVE_INFINITY,
): Float64Array {
  const output = new Float64Array(queries.length);
  const tokens = queries.length / (queryHeads * headDim);
  for (let token = 0; token < tokens; token += 1) {
    const end = past + token + 1;
    const first = Math.max(0, end - window);
    for (let head = 0; head < queryHeads; head += 1) {
      const at = (token * queryHeads + head) * headDim;
      const kvHead = Math.floor(head / (queryHeads / kvHeads));
      const place = (i: number) => ((first + i) * kvHeads + kvHead) * headDim;
      const weights = Float64Array.from({ length: end - first }, (_, i) => {
        let score = 0;
        for (let d = 0; d < headDim; d += 1) score += queries[at + d]! * keys[place(i) + d]!;
        return score * SCALE;
      });
      const most = Math.max(...weights);
      let sum = 0;
      for (let i = 0; i < weights.length; i += 1) {
        weights[i] = Math.exp(weights[i]! - most);
        sum += weights[i]!;
      }
      for (let i = 0; i < weights.length; i += 1) {
        for (let d = 0; d < headDim; d += 1) output[at + d]! += (weights[i]! / sum) * values[place(i) + d]!;
      }
    }
  }
  return output;
}
