/**
 * Names of llama.cpp's tensors and of Hugging Face's modules, and where the two store a weight differently. The table
 * holds for the architectures below; tensors of others are named alike but may be fused or reordered.
 */

/** How a tensor's values differ from those of the Hugging Face model. */
export type TensorChange = 'none' | 'rope rows' | 'plus one';

/** An architecture (`general.architecture`) and what `model_type` Hugging Face has it under. */
export interface GgufArchitecture {
  readonly name: string;
  /** The first is what a base model of this architecture is read as. */
  readonly modelTypes: readonly string[];
  /**
   * True: the rows of q and k are reordered per head, from [2, headDim / 2] to [headDim / 2, 2], because llama.cpp
   * rotates neighbouring pairs there.
   */
  readonly ropeRows: boolean;
  /** True: norm weights are stored with the 1 added that Hugging Face's code adds at run time. */
  readonly plusOne: boolean;
}

const architecture = (name: string, modelTypes: readonly string[], ropeRows = false, plusOne = false) => ({
  name,
  modelTypes,
  ropeRows,
  plusOne,
});

/** Architectures that adapters are read for; base models are read for {@link BASE_ARCHITECTURES}. */
export const ARCHITECTURES: ReadonlyMap<string, GgufArchitecture> = new Map(
  [
    architecture('llama', ['llama', 'mistral'], true),
    architecture('qwen2', ['qwen2']),
    architecture('qwen3', ['qwen3']),
    architecture('gemma', ['gemma'], false, true),
    architecture('gemma2', ['gemma2'], false, true),
    architecture('gemma3', ['gemma3_text'], false, true),
  ].map((one) => [one.name, one]),
);

/** Architectures that base models are read for. */
export const BASE_ARCHITECTURES: readonly string[] = ['llama', 'qwen2', 'qwen3', 'gemma'];

/** Modules of one layer, after `blk.N.` and `model.layers.N.`. */
const LAYER_MODULES: Readonly<Record<string, string>> = {
  attn_norm: 'input_layernorm',
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  attn_output: 'self_attn.o_proj',
  attn_q_norm: 'self_attn.q_norm',
  attn_k_norm: 'self_attn.k_norm',
  ffn_norm: 'post_attention_layernorm',
  ffn_gate: 'mlp.gate_proj',
  ffn_up: 'mlp.up_proj',
  ffn_down: 'mlp.down_proj',
};

const MODULES: Readonly<Record<string, string>> = {
  token_embd: 'model.embed_tokens',
  output_norm: 'model.norm',
  output: 'lm_head',
};

/** A tensor of a GGUF file in Hugging Face's terms. */
export interface NamedTensor {
  /** Module path, for example `model.layers.0.self_attn.q_proj`. */
  readonly module: string;
  readonly part: 'weight' | 'bias';
  readonly change: TensorChange;
}

/** What a tensor is called in Hugging Face's model code; undefined for a name that is not known. */
export function namedTensor(name: string, { ropeRows, plusOne }: GgufArchitecture): NamedTensor | undefined {
  const found = /^(?:blk\.(\d{1,5})\.)?([a-z_]+)\.(weight|bias)$/.exec(name);
  if (found === null) return undefined;
  const [, layer, own, part] = found as unknown as [string, string | undefined, string, 'weight' | 'bias'];
  const table = layer === undefined ? MODULES : LAYER_MODULES;
  if (!Object.hasOwn(table, own)) return undefined;
  const module = layer === undefined ? table[own]! : `model.layers.${Number(layer)}.${table[own]}`;
  const rotated = ropeRows && (own === 'attn_q' || own === 'attn_k');
  return { module, part, change: rotated ? 'rope rows' : plusOne && own.endsWith('norm') ? 'plus one' : 'none' };
}
