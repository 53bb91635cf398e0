/** Rotary position embedding as graph nodes, the same for every device. */
import type { GraphBuilder, Value } from './onnx-graph.js';
import type { AttentionSpec, DecoderSpec } from './spec.js';

/** The rotary inputs that all layers of a graph share. */
export interface RotaryInputs {
  /** int64 [1, rows]: 0..rows-1, the rows of the cos and sin inputs. */
  readonly positions: Value;
  /** By rope of the description: [rows, rotary dimensions / 2]. */
  readonly cos: readonly Value[];
  readonly sin: readonly Value[];
}

/** x [rows, heads * headDim] rotated, as [1, rows, heads * headDim]; x itself where the layer has no rope. */
export function emitRotary(
  graph: GraphBuilder,
  { headDim, ropes }: DecoderSpec,
  attention: AttentionSpec,
  x: Value,
  heads: number,
  inputs: RotaryInputs,
): Value {
  if (attention.rope === undefined) return x;
  const rope = ropes[attention.rope]!;
  const flat = graph.op('Reshape', [x, graph.ints([1, -1, heads * headDim])]);
  const rotated = [flat, inputs.positions, inputs.cos[attention.rope]!, inputs.sin[attention.rope]!];
  return graph.contrib('RotaryEmbedding', rotated, {
    num_heads: heads,
    ...(rope.interleaved === true && { interleaved: 1 }),
    ...(rope.rotaryDim < headDim && { rotary_embedding_dim: rope.rotaryDim }),
  });
}
