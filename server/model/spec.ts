/**
 * The vocabulary in which a model family describes itself: a decoder is a list of layers made of linears, norms and one
 * attention. The graph builder, the adapter binder and the weight reader all work from this description alone.
 */

/** A linear: y = x W^T + b. */
export interface LinearSpec {
  /** Module path in Hugging Face's model code; PEFT names its tensors after it. */
  readonly module: string;
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** Tensor names in the safetensors files; the bias where there is one. */
  readonly weight: string;
  readonly bias?: string | undefined;
  /** True for GPT-2's Conv1D: the weight is stored [in, out]. */
  readonly conv1d?: boolean | undefined;
}

/** RMS norm or layer norm over the last axis. */
export interface NormSpec {
  readonly module: string;
  readonly kind: 'rms' | 'layer';
  readonly width: number;
  readonly epsilon: number;
  readonly weight: string;
  readonly bias?: string | undefined;
  /** Gemma: the stored weight is an offset from 1. */
  readonly plusOne?: boolean | undefined;
}

/** One product that feeds several consumers: a list of linears, or one fused linear whose output is split. */
export type ProjectionSpec =
  | { readonly kind: 'separate'; readonly linears: readonly LinearSpec[] }
  | {
      readonly kind: 'fused';
      readonly linear: LinearSpec;
      readonly sizes: readonly number[];
      /** The output is that many parts one after the other, each of which is split into `sizes` (GPT-NeoX); absent = one. */
      readonly parts?: number | undefined;
    };

/** One norm for every head, or one for each (StableLM). */
export type HeadNorms = NormSpec | readonly NormSpec[];

/** Attention of one layer. */
export interface AttentionSpec {
  /** q, k, v in this order. */
  readonly qkv: ProjectionSpec;
  readonly output: LinearSpec;
  /** Norms over each head of q and k (Qwen3, Gemma 3), or over the whole projection (OLMo 2). */
  readonly qNorm?: HeadNorms | undefined;
  readonly kNorm?: HeadNorms | undefined;
  readonly normWhole?: boolean | undefined;
  /** Factor on q.k. */
  readonly scale: number;
  /** Only the newest `window` positions are seen, the token itself included. */
  readonly window?: number | undefined;
  /** softcap * tanh(score / softcap) before the mask (Gemma 2). */
  readonly softcap?: number | undefined;
  /** Which of the decoder's rotary tables; undefined = no rotation in this layer. */
  readonly rope: number | undefined;
}

/** Activation functions by the names of Hugging Face's `hidden_act`. */
export type Activation = 'silu' | 'gelu' | 'gelu_tanh' | 'relu' | 'relu2';

/** Feed-forward part: gated (gate, up -> act(gate)*up -> down) or plain (up -> act -> down). */
export interface MlpSpec {
  readonly gated: boolean;
  /** gate and up, or up alone. */
  readonly input: ProjectionSpec;
  readonly output: LinearSpec;
  readonly activation: Activation;
}

/** One decoder layer. Norms that a family lacks are absent. */
export interface LayerSpec {
  readonly attention: AttentionSpec;
  readonly mlp: MlpSpec;
  readonly preAttentionNorm?: NormSpec | undefined;
  readonly postAttentionNorm?: NormSpec | undefined;
  readonly preMlpNorm?: NormSpec | undefined;
  readonly postMlpNorm?: NormSpec | undefined;
  /** Factor on what is added to the residual stream (Granite). */
  readonly residualScale?: number | undefined;
  /** Attention and MLP both read the same input and are added together (Phi, StableLM's parallel form). */
  readonly parallel?: boolean | undefined;
}

/** One rotary table: angle of pair i at position p is p * inverseFrequency[i]; cos and sin times `attentionScale`. */
export interface RopeSpec {
  /** Dimensions of a head that are rotated (the first ones); even. */
  readonly rotaryDim: number;
  readonly inverseFrequency: Float64Array;
  readonly attentionScale: number;
  /** A pair are two neighbours (GPT-J, Cohere, GLM); absent = one of the first half and its like of the second. */
  readonly interleaved?: boolean | undefined;
  /** What holds instead of `inverseFrequency` for rows that may come to hold more than `length` tokens. */
  readonly beyond?: RopeBeyond | undefined;
}

/** LongRoPE: a second table. Dynamic NTK: a table for each length, up to `factor` times the first. */
export type RopeBeyond =
  | { readonly kind: 'table'; readonly length: number; readonly inverseFrequency: Float64Array }
  | { readonly kind: 'dynamic'; readonly length: number; readonly theta: number; readonly factor: number };

/** Learned positions. */
export interface PositionTable {
  readonly module: string;
  readonly weight: string;
  /** The row of the first token (OPT: 2); those before are never used. Absent = 0. */
  readonly first?: number | undefined;
}

/** A whole decoder. */
export interface DecoderSpec {
  readonly modelType: string;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly headDim: number;
  readonly queryHeads: number;
  readonly kvHeads: number;
  readonly contextLength: number;
  readonly layers: readonly LayerSpec[];
  readonly embedding: {
    readonly module: string;
    readonly weight: string;
    /** Factor on the rows (Gemma: sqrt(hidden); Granite: its multiplier). */
    readonly scale: number;
    /** Learned positions (GPT-2): [first + contextLength, hidden], added to the token's row. */
    readonly positions?: PositionTable | undefined;
  };
  readonly ropes: readonly RopeSpec[];
  readonly finalNorm: NormSpec;
  readonly head: {
    readonly linear: LinearSpec;
    /** True: `linear.weight` is the embedding table. */
    readonly tied: boolean;
    /** True: config.json ties it, but the weights have another table for it. */
    readonly apart?: boolean | undefined;
    readonly softcap?: number | undefined;
    /** Factor on the logits (Granite divides by its logits_scaling). */
    readonly scale?: number | undefined;
  };
}

/** All linears of a projection: one if fused. */
export function projectionLinears(projection: ProjectionSpec): readonly LinearSpec[] {
  return projection.kind === 'fused' ? [projection.linear] : projection.linears;
}

/** The same decoder with every linear, head included, passed through `change`. */
export function mapLinears(spec: DecoderSpec, change: (linear: LinearSpec) => LinearSpec): DecoderSpec {
  const projection = (one: ProjectionSpec): ProjectionSpec =>
    one.kind === 'fused' ? { ...one, linear: change(one.linear) } : { ...one, linears: one.linears.map(change) };
  return {
    ...spec,
    layers: spec.layers.map((layer) => ({
      ...layer,
      attention: {
        ...layer.attention,
        qkv: projection(layer.attention.qkv),
        output: change(layer.attention.output),
      },
      mlp: { ...layer.mlp, input: projection(layer.mlp.input), output: change(layer.mlp.output) },
    })),
    head: { ...spec.head, linear: change(spec.head.linear) },
  };
}

/** The same decoder with the names of all modules, and of their tensors, passed through `rename`. */
export function renameModules(spec: DecoderSpec, rename: (name: string) => string): DecoderSpec {
  const names = new Set(['module', 'weight', 'bias']);
  const walk = (value: unknown, key: string): unknown => {
    if (typeof value === 'string') return names.has(key) ? rename(value) : value;
    if (Array.isArray(value)) return value.map((item) => walk(item, key));
    if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return value;
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, walk(inner, name)]));
  };
  return walk(spec, '') as DecoderSpec;
}

/** Every linear of the decoder, head included, in the order of the model code. */
export function allLinears(spec: DecoderSpec): LinearSpec[] {
  const linears: LinearSpec[] = [];
  for (const layer of spec.layers) {
    linears.push(...projectionLinears(layer.attention.qkv), layer.attention.output);
    linears.push(...projectionLinears(layer.mlp.input), layer.mlp.output);
  }
  linears.push(spec.head.linear);
  return linears;
}

/** The same linears, those together that read the same input. */
export function linearGroups(spec: DecoderSpec): (readonly LinearSpec[])[] {
  return [
    ...spec.layers.flatMap(({ attention, mlp }) => [
      projectionLinears(attention.qkv),
      [attention.output],
      projectionLinears(mlp.input),
      [mlp.output],
    ]),
    [spec.head.linear],
  ];
}

/** Every norm of the decoder, the final one last. */
export function allNorms(spec: DecoderSpec): NormSpec[] {
  const norms: NormSpec[] = [];
  for (const layer of spec.layers) {
    const { attention } = layer;
    for (const norm of [
      layer.preAttentionNorm,
      attention.qNorm,
      attention.kNorm,
      layer.postAttentionNorm,
      layer.preMlpNorm,
      layer.postMlpNorm,
    ].flat()) {
      if (norm !== undefined) norms.push(norm);
    }
  }
  norms.push(spec.finalNorm);
  return norms;
}
