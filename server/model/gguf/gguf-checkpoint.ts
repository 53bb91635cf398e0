/**
 * The weights of a GGUF file under Hugging Face's names and with Hugging Face's values. Nothing is mapped: most types
 * have no form that onnxruntime reads, so weights are dequantised when they are asked for.
 */
import { dequantise, READABLE_TYPES } from '../../adapters/gguf/dequantise.js';
import type { GgufFile } from '../../adapters/gguf/gguf-file.js';
import type { GgufTensor } from '../../adapters/gguf/gguf-header.js';
import { ropeRowOrder, undoRopeRows } from '../../adapters/gguf/rope-rows.js';
import { type GgufArchitecture, namedTensor, type TensorChange } from '../../adapters/gguf/tensor-names.js';
import { firstNonFinite } from '../../adapters/tensor-dtype.js';
import type { Checkpoint } from '../checkpoint.js';
import { unpackQ8 } from './q8-blocks.js';

/** A tensor of the file, what it is called here, and how its values differ. */
interface Stored {
  readonly tensor: GgufTensor;
  readonly change: TensorChange;
}

/** A checkpoint that lists what it holds. */
export interface GgufCheckpoint extends Checkpoint {
  readonly names: readonly string[];
}

/** Tensors that say nothing about weights; they are read elsewhere. */
const OTHER_TENSORS = new Set(['rope_freqs.weight']);

/**
 * Names the tensors of a model file.
 * @throws AppError MODEL_INVALID for a tensor that is unknown or of a type that is not read
 */
export function ggufCheckpoint(file: GgufFile, architecture: GgufArchitecture, headDim: number): GgufCheckpoint {
  const byName = nameTensors(file, architecture, headDim);
  const find = (name: string): Stored => {
    const stored = byName.get(name);
    if (stored === undefined) throw file.fail(`the file holds no tensor for ${name}`);
    return stored;
  };
  const readFloat32 = async (name: string): Promise<Float32Array> => {
    const { tensor, change } = find(name);
    let values = await file.readFloat32(tensor.name);
    const bad = firstNonFinite(values);
    if (bad >= 0) throw file.fail(`tensor ${JSON.stringify(tensor.name)}: element ${bad} is ${values[bad]}`);
    if (change === 'rope rows') values = undoRopeRows(values, tensor.shape[0]!, headDim);
    if (change === 'plus one') for (let i = 0; i < values.length; i += 1) values[i]! -= 1;
    return values;
  };
  const expect = (name: string, shape: readonly number[]): void => {
    const { tensor } = find(name);
    if (tensor.shape.length === shape.length && tensor.shape.every((size, i) => size === shape[i])) return;
    throw file.fail(
      `tensor ${JSON.stringify(tensor.name)} has shape [${tensor.shape}], the metadata make it [${shape}]`,
    );
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
      const { tensor, change } = find(name);
      if (tensor.type.name !== 'Q8_0') return undefined;
      const order = change === 'rope rows' ? ropeRowOrder(tensor.shape[0]!, headDim) : undefined;
      const blocks = unpackQ8(await file.readRaw(tensor.name), tensor.shape[0]!, order);
      const bad = firstNonFinite(blocks.scales);
      if (bad >= 0) throw file.fail(`tensor ${JSON.stringify(tensor.name)}: scale ${bad} is ${blocks.scales[bad]}`);
      return blocks;
    },
    close: () => file.close(),
  };
}

function nameTensors(file: GgufFile, architecture: GgufArchitecture, headDim: number): ReadonlyMap<string, Stored> {
  const byName = new Map<string, Stored>();
  for (const tensor of file.tensors.values()) {
    if (OTHER_TENSORS.has(tensor.name)) continue;
    const what = `tensor ${JSON.stringify(tensor.name)}`;
    const named = namedTensor(tensor.name, architecture);
    if (named === undefined) throw file.fail(`${what} is none of a ${architecture.name} model that is supported`);
    if (!READABLE_TYPES.includes(tensor.type.name)) {
      throw file.fail(`${what} is stored as ${tensor.type.name}; ${READABLE_TYPES.join(', ')} are read`);
    }
    if (named.change === 'rope rows' && (headDim % 2 !== 0 || tensor.shape[0]! % headDim !== 0)) {
      throw file.fail(`${what} has ${tensor.shape[0]} rows, which are no whole heads of ${headDim}`);
    }
    byName.set(`${named.module}.${named.part}`, { tensor, change: named.change });
  }
  return byName;
}
