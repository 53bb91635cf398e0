/**
 * The weights of a GGUF file under Hugging Face's names and with Hugging Face's values. Nothing is mapped: most types
 * have no form that onnxruntime reads, so weights are dequantised when they are asked for.
 */
import type { GgufArchitecture } from '../../adapters/gguf/architectures.js';
import { dequantise } from '../../adapters/gguf/dequantise.js';
import type { GgufFile } from '../../adapters/gguf/gguf-file.js';
import { ropeRowOrder, undoRopeRows } from '../../adapters/gguf/rope-rows.js';
import { firstNonFinite } from '../../adapters/tensor-dtype.js';
import { transpose } from '../../adapters/transpose.js';
import type { Checkpoint } from '../checkpoint.js';
import { type Heads, nameTensors, type Stored } from './gguf-names.js';
import { unpackQ8 } from './q8-blocks.js';

/** A checkpoint that lists what it holds. */
export interface GgufCheckpoint extends Checkpoint {
  readonly names: readonly string[];
}

/**
 * Names the tensors of a model file.
 * @throws AppError MODEL_INVALID for a tensor that is unknown or of a type that is not read
 */
export function ggufCheckpoint(file: GgufFile, architecture: GgufArchitecture, heads: Heads): GgufCheckpoint {
  const { headDim } = heads;
  const byName = nameTensors(file, architecture, heads);
  const find = (name: string): Stored => {
    const stored = byName.get(name);
    if (stored === undefined) throw file.fail(`the file holds no tensor for ${name}`);
    return stored;
  };
  const readFloat32 = async (name: string): Promise<Float32Array> => {
    const { tensor, change, rows, shape } = find(name);
    const values = await file.readFloat32(tensor.name, rows);
    const bad = firstNonFinite(values);
    if (bad >= 0) throw file.fail(`tensor ${JSON.stringify(tensor.name)}: element ${bad} is ${values[bad]}`);
    if (change === 'rope rows') return undoRopeRows(values, shape[0]!, headDim);
    if (change === 'transposed') return transpose(values, shape[1]!, shape[0]!);
    if (change === 'plus one') for (let i = 0; i < values.length; i += 1) values[i]! -= 1;
    return values;
  };
  const expect = (name: string, wanted: readonly number[]): void => {
    const { tensor, shape } = find(name);
    if (shape.length === wanted.length && shape.every((size, i) => size === wanted[i])) return;
    throw file.fail(`tensor ${JSON.stringify(tensor.name)} has shape [${shape}], the metadata make it [${wanted}]`);
  };
  return {
    folder: '.',
    files: [
      {
        path: file.path,
        tensors: new Map(Array.from(file.tensors, ([name, t]) => [name, { ...t, dtype: t.type.name }])),
        headerDigest: file.headerDigest,
      },
    ],
    names: [...byName.keys()],
    has: (name) => byName.has(name),
    expect,
    mapped: () => undefined,
    readFloat32: async (name, shape) => {
      if (shape !== undefined) expect(name, shape);
      return readFloat32(name);
    },
    readRows: async (name) => {
      const { tensor, change } = find(name);
      if (change !== 'none') throw new Error(`rows of ${name} cannot be read as stored`);
      const { type } = tensor;
      return {
        bytes: await file.readRaw(tensor.name),
        rowBytes: (tensor.shape.at(-1)! / type.blockElements) * type.blockBytes,
        widen: (row, target, at) => dequantise(row, type, target, at),
      };
    },
    readBlocks: async (name) => {
      // A transposed weight needs no turning here: blocks go along the input, as the file has them.
      const { tensor, change, rows } = find(name);
      if (tensor.type.name !== 'Q8_0') return undefined;
      const count = rows === undefined ? tensor.shape[0]! : rows[1] - rows[0];
      const order = change === 'rope rows' ? ropeRowOrder(count, headDim) : undefined;
      const blocks = unpackQ8(await file.readRaw(tensor.name, rows), count, order);
      const bad = firstNonFinite(blocks.scales);
      if (bad >= 0) throw file.fail(`tensor ${JSON.stringify(tensor.name)}: scale ${bad} is ${blocks.scales[bad]}`);
      return blocks;
    },
    close: () => file.close(),
  };
}
