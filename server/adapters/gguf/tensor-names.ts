/** Names of llama.cpp's tensors in Hugging Face's terms, and where the two store a weight differently. */
import type { GgufArchitecture } from './architectures.js';

/** How a tensor's values differ from those of the Hugging Face model. */
export type TensorChange = 'none' | 'rope rows' | 'plus one' | 'transposed';

/** A part of a tensor's rows, where the file keeps several modules in one tensor. */
export type TensorPiece = 'q' | 'k' | 'v' | 'each row';

/** A tensor of a GGUF file, or a piece of one, in Hugging Face's terms. */
export interface NamedTensor {
  /** Module path, for example `model.layers.0.self_attn.q_proj`; with `each row`, that of a list of modules. */
  readonly module: string;
  readonly part: 'weight' | 'bias';
  readonly change: TensorChange;
  /** Absent = the whole tensor. */
  readonly piece?: TensorPiece;
}

/** The linears that `attn_qkv` is made of where Hugging Face's code has three of them. */
const SEPARATE = { q: 'attn_q', k: 'attn_k', v: 'attn_v' } as const;

/** What a tensor is called in Hugging Face's model code, piece by piece; empty for a name that is not known. */
export function namedTensors(name: string, architecture: GgufArchitecture): readonly NamedTensor[] {
  const found = /^(?:blk\.(\d{1,5})\.)?([a-z_]+)\.(weight|bias)$/.exec(name);
  if (found === null) return [];
  const [, layer, own, part] = found as unknown as [string, string | undefined, string, 'weight' | 'bias'];
  const table = layer === undefined ? architecture.modules : architecture.layerModules;
  const prefix = layer === undefined ? '' : `${architecture.layers}.${Number(layer)}.`;
  const named = (tensor: string, piece?: TensorPiece): NamedTensor[] =>
    Object.hasOwn(table, tensor)
      ? [
          {
            module: prefix + table[tensor]!,
            part,
            change: changeOf(tensor, part, architecture),
            ...(piece !== undefined && { piece }),
          },
        ]
      : [];
  if (own === 'attn_qkv' && !Object.hasOwn(table, own)) {
    return Object.entries(SEPARATE).flatMap(([piece, tensor]) => named(tensor, piece as TensorPiece));
  }
  return named(own, architecture.rowNorms.includes(own) ? 'each row' : undefined);
}

function changeOf(own: string, part: 'weight' | 'bias', architecture: GgufArchitecture): TensorChange {
  if (architecture.ropeRows && (own === 'attn_q' || own === 'attn_k')) return 'rope rows';
  if (architecture.plusOne && part === 'weight' && own.endsWith('norm')) return 'plus one';
  return architecture.conv1d && part === 'weight' && CONV1D.has(own) ? 'transposed' : 'none';
}

/** GPT-2's Conv1D linears: Hugging Face stores them [in, out]. */
const CONV1D = new Set(['attn_qkv', 'attn_output', 'ffn_up', 'ffn_down']);
