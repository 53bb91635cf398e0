/** Tries attention over pages on the device at hand, as attention-check.ts does the kernels over whole rows. */

import { GraphBuilder } from '../../model/onnx-graph.js';
import { emitPagedAttention, PAGE, pageInputs, poolNames } from '../../model/webgpu/paged-attention.js';
import * as ort from '../ort.js';
import { agrees, type Heads, mostTokens, SCALE } from './attention-trial.js';
import type { GpuDevice, GpuSession, GpuTensor } from './gpu-device.js';

/** The row's pages in order, among more: neighbours do not follow one another. */
const TABLE = [3, 1, 4, 2];
const POOL = 6;
/** Stands for whatever windows a model has: shorter than the blocks that are tried. */
const WINDOW = 24;

/**
 * Runs blocks through the kernel with the model's heads and compares with the host's arithmetic.
 * @param windowed whether some and whether all layers see a part of the past only
 * @returns most new tokens of a row in one run; 0 = the kernel is of no use. Throws where the device has none.
 */
export async function checkPaged(
  device: GpuDevice,
  heads: Heads,
  { some, all }: { readonly some: boolean; readonly all: boolean },
): Promise<number> {
  const windows = [...(all ? [] : [undefined]), ...(some ? [WINDOW] : [])];
  let most = Number.POSITIVE_INFINITY;
  for (const window of windows) {
    const session = await device.session(attentionGraph(heads, window), false);
    most = Math.min(most, await mostTokens((blocks) => computes(device, session, heads, window, blocks)));
  }
  return most;
}

/** Name of the trial's output, [tokens, queryHeads * headDim]. */
const OUTPUT = 'output';

function attentionGraph(heads: Heads, window: number | undefined): Uint8Array {
  const { queryHeads, kvHeads, headDim } = heads;
  const graph = new GraphBuilder();
  const fresh = (name: string, count: number) =>
    graph.op('Cast', [graph.input(name, 'float32', ['tokens', count * headDim])], { to: 10 });
  const given = [fresh('q', queryHeads), fresh('k', kvHeads), fresh('v', kvHeads)] as const;
  const attended = emitPagedAttention(graph, heads, { scale: SCALE, window }, 0, given);
  graph.output(graph.named(OUTPUT, 'Cast', [attended], { to: 1 }), 'float32', ['tokens', queryHeads * headDim]);
  return graph.finish('paged-check');
}

async function computes(
  device: GpuDevice,
  session: GpuSession,
  heads: Heads,
  window: number | undefined,
  blocks: readonly number[],
): Promise<boolean> {
  const { kvHeads, headDim } = heads;
  const pools: GpuTensor[] = [];
  try {
    for (let side = 0; side < 2; side += 1) pools.push(await device.zeros('float16', [POOL, PAGE, kvHeads, headDim]));
    return await agrees(heads, 'float16', blocks, window, async ({ past, tokens, queries, keys, values }) => {
      const tensor = (data: Float32Array) => new ort.Tensor('float32', data, [tokens, data.length / tokens]);
      const int32 = (values: readonly number[], dims: readonly number[]) =>
        new ort.Tensor('int32', Int32Array.from(values), dims);
      const outputs = await session.run(
        {
          q: tensor(queries),
          k: tensor(keys),
          v: tensor(values),
          [poolNames.keys(0)]: pools[0]!,
          [poolNames.values(0)]: pools[1]!,
          [pageInputs.starts]: int32([0, tokens], [2]),
          [pageInputs.past]: int32([past], [1]),
          [pageInputs.table]: int32(TABLE, [1, TABLE.length]),
          [pageInputs.bounds]: int32([tokens, past + tokens], [2]),
        },
        { [OUTPUT]: null },
      );
      return outputs[OUTPUT]!.data as Float32Array;
    });
  } finally {
    for (const pool of pools) device.free(pool);
  }
}
