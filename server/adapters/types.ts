/**
 * The meeting point of adapter files and the engine: what the base model offers to be adapted ({@link AdapterBase}),
 * and what an adapter does to it once every tensor is bound ({@link BoundAdapter}).
 */

import type { AdapterText } from './adapter-text.js';

/** A module of the base model that PEFT can adapt, named as in Hugging Face's model code. */
export interface TargetModule {
  /** Full path, for example `model.layers.0.self_attn.q_proj`. */
  readonly name: string;
  readonly kind: 'linear' | 'embedding' | 'norm';
  /** Linear: width of x. Embedding: rows of the table. Norm: its width. */
  readonly inFeatures: number;
  /** Linear: width of y. Embedding: width of a row. Norm: its width. */
  readonly outFeatures: number;
  /** True for GPT-2's Conv1D, whose stored weight is [in, out]; PEFT's A and B keep their usual orientation. */
  readonly conv1d: boolean;
  /** True where the base has a bias. */
  readonly hasBias: boolean;
  /** Layer number, or undefined outside the layers (embedding, final norm, head). */
  readonly layer: number | undefined;
}

/** The base model as adapter binding sees it. */
export interface AdapterBase {
  readonly modelType: string;
  /** Folder name or `_name_or_path` of the base, compared with `base_model_name_or_path` for a warning. */
  readonly nameOrPath: string;
  /** Other names it goes by: that of its folder, that it is served under. */
  readonly aliases: readonly string[];
  readonly layerCount: number;
  readonly vocabSize: number;
  /** Width of an attention head; adapters in GGUF form have the rows of q and k reordered by it. */
  readonly headDim?: number | undefined;
  /** True: the output matrix is the embedding table; then `lm_head` is still a target of its own. */
  readonly tiedHead: boolean;
  /** True: config.json ties the head, but it has a table of its own; PEFT goes by the config for some adaptations. */
  readonly headApart?: boolean | undefined;
  /** Every adaptable module, in the order of Hugging Face's model code. */
  readonly modules: ReadonlyMap<string, TargetModule>;
  /** Path of the token embedding, e.g. `model.embed_tokens`, and of the head, `lm_head`. */
  readonly embeddingModule: string;
  readonly headModule: string;
  /** Reads a base weight (`<module>.weight` or `.bias`) as float32 in the orientation it is stored in. */
  readWeight(tensorName: string): Promise<Float32Array>;
}

/** One adapted linear. All fields that are present apply; y = gain * (xW + xAB) + bias + biasDelta. */
export interface BoundLinear {
  readonly module: string;
  readonly rank: number;
  /** alpha/r or alpha/sqrt(r) of this module; already multiplied into `b` (and `biasDelta`). For reports. */
  readonly scaling: number;
  /** [rank, in], as PEFT stores lora_A. Empty when rank is 0. */
  readonly a: Float32Array;
  /** [rank, out]: lora_B transposed, times scaling. Empty when rank is 0. */
  readonly b: Float32Array;
  /** DoRA: [out], magnitude / ||W + scaling*BA|| per output feature. */
  readonly gain?: Float32Array | undefined;
  /** [out]: what to add to the output after the gain: replaced bias minus base bias, plus scaled lora_B.bias. */
  readonly biasDelta?: Float32Array | undefined;
  /** modules_to_save: [out, in], the whole weight of this linear for rows of this adapter. */
  readonly replaced?: Float32Array | undefined;
  /**
   * Of an activated adapter: true for what applies from the first token on, as replaced weights and biases do; low-rank
   * matrices wait for the invocation. A linear with both has two entries.
   */
  readonly always?: boolean | undefined;
}

/** What an adapter does to the token embedding. */
export interface BoundEmbedding {
  /**
   * LoRA on the embedding: row(id) = gain * (row(id) + A[:, id] B); a is [vocab, rank] (so that a row is contiguous), b is
   * [rank, hidden] scaled, gain (DoRA) is [hidden].
   */
  readonly lora?:
    | {
        readonly rank: number;
        readonly scaling: number;
        readonly a: Float32Array;
        readonly b: Float32Array;
        readonly gain?: Float32Array | undefined;
      }
    | undefined;
  /** Whole replacement rows (trainable tokens): id -> [hidden]. */
  readonly rows?: ReadonlyMap<number, Float32Array> | undefined;
  /** modules_to_save: the whole table [vocab, hidden]. */
  readonly replaced?: Float32Array | undefined;
}

/** See {@link BoundAdapter.vocabulary}. With fewer ids than the base, `rows` is empty. */
export interface OwnVocabulary {
  readonly size: number;
  readonly rows: Float32Array;
  readonly bias?: Float32Array | undefined;
  /** Of an activated adapter with matrices on the head: rows and biases before its invocation. */
  readonly before?: { readonly rows: Float32Array; readonly bias?: Float32Array | undefined } | undefined;
}

/** An adapter with every tensor bound: nothing of its file is left over, nothing that its config promises is missing. */
export interface BoundAdapter {
  /** Lower-case hex SHA-256 over canonical config and tensors: the adapter's identity everywhere. */
  readonly digest: string;
  /** Bytes of all arrays below. */
  readonly bytes: number;
  readonly linears: readonly BoundLinear[];
  readonly embedding?: BoundEmbedding | undefined;
  /** Replaced norm weights by module path: [width]. */
  readonly norms: ReadonlyMap<string, Float32Array>;
  /** Replaced norm biases by module path: [width]. Absent = none. */
  readonly normBiases?: ReadonlyMap<string, Float32Array> | undefined;
  /**
   * Replaced rows of the output matrix: id -> [hidden]; logit(id) = row . hidden state. On a tied model, trained tokens
   * replace the output rows too.
   */
  readonly headRows?: ReadonlyMap<number, Float32Array> | undefined;
  /**
   * The adapter's own vocabulary, where it is not the base's: how many ids its rows know, and the output rows of those
   * beyond the base's, [size - vocab, hidden], with their biases. `embedding.rows` has their input rows.
   */
  readonly vocabulary?: OwnVocabulary | undefined;
  /** What the tokenizer files beside it say; absent where there are none. */
  readonly text?: AdapterText | undefined;
  /**
   * Activated LoRA: ids from whose last occurrence in the prompt on the low-rank matrices apply. Replaced modules, biases
   * and trained tokens apply everywhere, as in PEFT.
   */
  readonly invocationTokens?: readonly number[] | undefined;
  /** Names of the features used: 'lora', 'rslora', 'dora', 'bias', 'lora_bias', 'replaced_linear', 'replaced_norm', 'replaced_embedding', 'embedding_lora', 'trained_tokens', 'trained_head_rows', 'norm_bias', 'resized_vocabulary', 'alora', 'rank_pattern', 'alpha_pattern', 'lm_head'. */
  readonly features: readonly string[];
  readonly warnings: readonly string[];
}
