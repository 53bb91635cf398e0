/** The tensors of a GGUF file by the names that Hugging Face's model code has for them. */
import type { GgufArchitecture } from '../../adapters/gguf/architectures.js';
import { READABLE_TYPES } from '../../adapters/gguf/dequantise.js';
import type { GgufFile, RowRange } from '../../adapters/gguf/gguf-file.js';
import type { GgufTensor } from '../../adapters/gguf/gguf-header.js';
import { type NamedTensor, namedTensors, type TensorChange } from '../../adapters/gguf/tensor-names.js';
import type { DecoderSpec } from '../spec.js';

/** A tensor of the file, or some rows of it, and how its values differ. */
export interface Stored {
  readonly tensor: GgufTensor;
  readonly change: TensorChange;
  /** Absent = all of them. */
  readonly rows?: RowRange | undefined;
  /** As Hugging Face has it. */
  readonly shape: readonly number[];
}

/** What says how many rows belong to whom. */
export type Heads = Pick<DecoderSpec, 'headDim' | 'queryHeads' | 'kvHeads'>;

/** Tensors that say nothing about weights; they are read elsewhere. */
const OTHER_TENSORS = new Set(['rope_freqs.weight', 'rope_factors_short.weight', 'rope_factors_long.weight']);

/**
 * Names the tensors of a model file.
 * @throws AppError MODEL_INVALID for a tensor that is unknown or of a type that is not read
 */
export function nameTensors(file: GgufFile, architecture: GgufArchitecture, heads: Heads): ReadonlyMap<string, Stored> {
  const byName = new Map<string, Stored>();
  for (const tensor of file.tensors.values()) {
    if (OTHER_TENSORS.has(tensor.name)) continue;
    const what = `tensor ${JSON.stringify(tensor.name)}`;
    const named = namedTensors(tensor.name, architecture);
    if (named.length === 0) throw file.fail(`${what} is none of a ${architecture.name} model that is supported`);
    if (!READABLE_TYPES.includes(tensor.type.name)) {
      throw file.fail(`${what} is stored as ${tensor.type.name}; ${READABLE_TYPES.join(', ')} are read`);
    }
    for (const [name, stored] of named.flatMap((one) => pieces(file, tensor, one, heads))) {
      const other = byName.get(name);
      if (other !== undefined) throw file.fail(`${what} and ${JSON.stringify(other.tensor.name)} are both ${name}`);
      byName.set(name, stored);
    }
  }
  return byName;
}

/** One module's part of a tensor, or that of each module of a list. */
function pieces(file: GgufFile, tensor: GgufTensor, named: NamedTensor, heads: Heads): [name: string, Stored][] {
  const { module, part, change, piece } = named;
  const what = `tensor ${JSON.stringify(tensor.name)}`;
  const all = tensor.shape[0]!;
  if (piece === 'each row') {
    if (tensor.shape.length !== 2 || all > heads.queryHeads)
      throw file.fail(`${what} has shape [${tensor.shape}]; one row for each head would be right`);
    return Array.from({ length: all }, (_, row) => [
      `${module}.${row}.${part}`,
      { tensor, change, rows: [row, row + 1], shape: tensor.shape.slice(1) },
    ]);
  }
  const rows = piece === undefined ? undefined : rowsOf(piece, heads);
  if (rows !== undefined && all !== rowsOf('v', heads)[1])
    throw file.fail(`${what} has ${all} rows, q, k and v make it ${rowsOf('v', heads)[1]}`);
  const count = rows === undefined ? all : rows[1] - rows[0];
  if (change === 'rope rows' && (heads.headDim % 2 !== 0 || count % heads.headDim !== 0)) {
    throw file.fail(`${what} has ${count} rows, which are no whole heads of ${heads.headDim}`);
  }
  const shape = change === 'transposed' ? [...tensor.shape].reverse() : [count, ...tensor.shape.slice(1)];
  return [[`${module}.${part}`, { tensor, change, rows, shape }]];
}

/** Where q, k and v lie in a tensor that holds all three. */
function rowsOf(piece: 'q' | 'k' | 'v', { headDim, queryHeads, kvHeads }: Heads): RowRange {
  const [q, k] = [queryHeads * headDim, kvHeads * headDim];
  return { q: [0, q] as const, k: [q, q + k] as const, v: [q + k, q + 2 * k] as const }[piece];
}
