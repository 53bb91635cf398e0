/**
 * The architectures of GGUF files (`general.architecture`) that are read: what Hugging Face calls them and their
 * modules, and how llama.cpp's converter changes their weights.
 */

/** An architecture and what `model_type` Hugging Face has it under. */
export interface GgufArchitecture {
  readonly name: string;
  /** The first is what a base model of this architecture is read as, unless its metadata say another. */
  readonly modelTypes: readonly string[];
  /**
   * True: the rows of q and k are reordered per head, from [2, headDim / 2] to [headDim / 2, 2], because llama.cpp
   * rotates neighbouring pairs there.
   */
  readonly ropeRows: boolean;
  /** True: norm weights are stored with the 1 added that Hugging Face's code adds at run time. */
  readonly plusOne: boolean;
  /** True: linears are stored [out, in], as everywhere, where Hugging Face has GPT-2's Conv1D. */
  readonly conv1d: boolean;
  /** Norms of which the file has one tensor with a row for each of Hugging Face's modules. */
  readonly rowNorms: readonly string[];
  /** Modules outside the layers, by tensor name. */
  readonly modules: Readonly<Record<string, string>>;
  /** The list of layers. */
  readonly layers: string;
  /** Modules of one layer, after `blk.N.` and `<layers>.N.`. */
  readonly layerModules: Readonly<Record<string, string>>;
}

const MODULES = { token_embd: 'model.embed_tokens', output_norm: 'model.norm', output: 'lm_head' };

const ATTENTION = {
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  attn_output: 'self_attn.o_proj',
};
const HEAD_NORMS = { attn_q_norm: 'self_attn.q_norm', attn_k_norm: 'self_attn.k_norm' };
const NORMS = { attn_norm: 'input_layernorm', ffn_norm: 'post_attention_layernorm' };
const GATED = { ffn_gate: 'mlp.gate_proj', ffn_up: 'mlp.up_proj', ffn_down: 'mlp.down_proj' };
const FUSED_GATED = { ffn_up: 'mlp.gate_up_proj', ffn_down: 'mlp.down_proj' };

/** Llama's layer, with Qwen 3's norms. What a model of the architecture cannot have is refused when it is described. */
const LLAMA = { ...NORMS, ...ATTENTION, ...HEAD_NORMS, ...GATED };
/** Gemma 2 and 3: norms before and after both blocks. */
const FOUR_NORMS = {
  attn_norm: 'input_layernorm',
  post_attention_norm: 'post_attention_layernorm',
  ffn_norm: 'pre_feedforward_layernorm',
  post_ffw_norm: 'post_feedforward_layernorm',
};
/** OLMo 2 and EXAONE 4: norms after the blocks only, and over q and k. */
const NORMS_AFTER = {
  ...ATTENTION,
  ...HEAD_NORMS,
  ...GATED,
  post_attention_norm: 'post_attention_layernorm',
  post_ffw_norm: 'post_feedforward_layernorm',
};
const GPT2 = {
  modules: {
    token_embd: 'transformer.wte',
    position_embd: 'transformer.wpe',
    output_norm: 'transformer.ln_f',
    output: 'lm_head',
  },
  layers: 'transformer.h',
  layerModules: {
    attn_norm: 'ln_1',
    attn_qkv: 'attn.c_attn',
    attn_output: 'attn.c_proj',
    ffn_norm: 'ln_2',
    ffn_up: 'mlp.c_fc',
    ffn_down: 'mlp.c_proj',
  },
};

function architecture(
  name: string,
  modelTypes: readonly string[],
  layerModules: Readonly<Record<string, string>>,
  own: Partial<GgufArchitecture> = {},
): GgufArchitecture {
  return {
    name,
    modelTypes,
    ropeRows: false,
    plusOne: false,
    conv1d: false,
    rowNorms: [],
    modules: MODULES,
    layers: 'model.layers',
    layerModules,
    ...own,
  };
}

/** Architectures that base models and adapters are read for, by name. */
export const ARCHITECTURES: ReadonlyMap<string, GgufArchitecture> = new Map(
  [
    architecture('llama', ['llama', 'mistral'], LLAMA, { ropeRows: true }),
    architecture('qwen2', ['qwen2'], LLAMA),
    architecture('qwen3', ['qwen3'], LLAMA),
    architecture('gemma', ['gemma'], LLAMA, { plusOne: true }),
    architecture('gemma2', ['gemma2'], { ...LLAMA, ...FOUR_NORMS }, { plusOne: true }),
    architecture('gemma3', ['gemma3_text'], { ...LLAMA, ...FOUR_NORMS }, { plusOne: true }),
    architecture('phi3', ['phi3'], {
      ...NORMS,
      attn_qkv: 'self_attn.qkv_proj',
      attn_output: 'self_attn.o_proj',
      ...FUSED_GATED,
    }),
    architecture(
      'phi2',
      ['phi'],
      {
        attn_norm: 'input_layernorm',
        ...ATTENTION,
        attn_output: 'self_attn.dense',
        ffn_up: 'mlp.fc1',
        ffn_down: 'mlp.fc2',
      },
      { modules: { ...MODULES, output_norm: 'model.final_layernorm' } },
    ),
    architecture('olmo2', ['olmo2', 'olmo3'], NORMS_AFTER),
    architecture('granite', ['granite'], LLAMA, { ropeRows: true }),
    architecture('starcoder2', ['starcoder2'], {
      ...NORMS,
      ...ATTENTION,
      ffn_up: 'mlp.c_fc',
      ffn_down: 'mlp.c_proj',
    }),
    architecture(
      'stablelm',
      ['stablelm'],
      { ...LLAMA, attn_q_norm: 'self_attn.q_layernorm.norms', attn_k_norm: 'self_attn.k_layernorm.norms' },
      { rowNorms: ['attn_q_norm', 'attn_k_norm'] },
    ),
    architecture('smollm3', ['smollm3'], LLAMA, { ropeRows: true }),
    architecture('command-r', ['cohere'], { attn_norm: 'input_layernorm', ...ATTENTION, ...GATED }),
    architecture('cohere2', ['cohere2'], { attn_norm: 'input_layernorm', ...ATTENTION, ...GATED }),
    architecture('chatglm', ['glm'], { ...NORMS, ...ATTENTION, ...FUSED_GATED }),
    architecture('glm4', ['glm4'], {
      ...NORMS,
      ...ATTENTION,
      ...FUSED_GATED,
      post_attention_norm: 'post_self_attn_layernorm',
      post_ffw_norm: 'post_mlp_layernorm',
    }),
    architecture('exaone4', ['exaone4'], NORMS_AFTER),
    architecture('nemotron', ['nemotron'], LLAMA, { plusOne: true }),
    architecture('ernie4_5', ['ernie4_5'], LLAMA),
    architecture('seed_oss', ['seed_oss'], {
      ...ATTENTION,
      ...GATED,
      attn_norm: 'input_layernorm',
      post_attention_norm: 'post_attention_layernorm',
    }),
    architecture('arcee', ['arcee'], LLAMA, { ropeRows: true }),
    architecture('gpt2', ['gpt2'], GPT2.layerModules, { ...GPT2, conv1d: true }),
    architecture('starcoder', ['gpt_bigcode'], GPT2.layerModules, GPT2),
  ].map((one) => [one.name, one]),
);
