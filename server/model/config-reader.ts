/**
 * Reads `config.json` field by field. Every field that a family uses is asked for by name; what is left at the end is
 * either known not to change the forward pass, or the model is refused: an unknown switch must never be ignored.
 */
import { AppError } from '../errors.js';

/** Fields that describe the file, training or generation, but not the forward pass. */
const HARMLESS = new Set(
  (
    '_name_or_path _attn_implementation _attn_implementation_autoset architectures model_type torch_dtype dtype transformers_version use_cache ' +
    'attention_dropout hidden_dropout resid_pdrop embd_pdrop attn_pdrop residual_dropout embedding_dropout resid_dropout hidden_dropout_prob ' +
    'embed_dropout classifier_dropout dropout activation_dropout layerdrop init_std model_max_length ' +
    'initializer_range initializer_factor pretraining_tp bos_token_id eos_token_id pad_token_id sep_token_id unk_token_id decoder_start_token_id ' +
    'output_attentions output_hidden_states return_dict torchscript use_bfloat16 tie_encoder_decoder is_encoder_decoder is_decoder ' +
    'id2label label2id task_specific_params problem_type finetuning_task prefix tokenizer_class max_length min_length do_sample temperature ' +
    'top_k top_p typical_p repetition_penalty length_penalty no_repeat_ngram_size num_beams num_beam_groups num_return_sequences ' +
    'diversity_penalty early_stopping encoder_no_repeat_ngram_size bad_words_ids begin_suppress_tokens suppress_tokens forced_bos_token_id ' +
    'forced_eos_token_id remove_invalid_values exponential_decay_length_penalty output_scores return_dict_in_generate chunk_size_feed_forward ' +
    'pruned_heads tf_legacy_loss cross_attention_hidden_size auto_map keys_to_ignore_at_inference gradient_checkpointing unsloth_version ' +
    'unsloth_fixed is_llama_config rope_interleaved use_cache_config transformers.js_config max_window_layers use_flash_attention ' +
    'summary_activation summary_first_dropout summary_proj_to_labels summary_type summary_use_proj reorder_and_upcast_attn n_ctx ' +
    'cache_implementation hidden_activation_comment use_mambapy router_aux_loss_coef vocab_size_padded max_sequence_length'
  ).split(' '),
);

/** A `config.json` that remembers which of its fields were read. */
export class ConfigReader {
  readonly #fields: Record<string, unknown>;
  readonly #used = new Set<string>();
  readonly #where: string;

  constructor(fields: Record<string, unknown>, where: string) {
    this.#fields = fields;
    this.#where = where;
  }

  /** The value of a field, whatever it is; null counts as absent. */
  raw(name: string): unknown {
    this.#used.add(name);
    return this.#fields[name] ?? undefined;
  }

  /** A positive whole number. */
  count(name: string, fallback?: number): number {
    const value = this.raw(name) ?? fallback;
    if (typeof value !== 'number' || !Number.isInteger(value) || value <= 0)
      throw this.fault(name, 'a positive whole number', value);
    return value;
  }

  /** A finite number. */
  number(name: string, fallback?: number): number {
    const value = this.raw(name) ?? fallback;
    if (typeof value !== 'number' || !Number.isFinite(value)) throw this.fault(name, 'a number', value);
    return value;
  }

  /** A number above 0: a divisor, or the base of a power. */
  positive(name: string, fallback?: number): number {
    const value = this.number(name, fallback);
    if (value <= 0) throw this.fault(name, 'a number above 0', value);
    return value;
  }

  /** A finite number; undefined where the field is null, `whenAbsent` where it is not there at all. */
  optionalNumber(name: string, whenAbsent?: number): number | undefined {
    if (this.raw(name) !== undefined) return this.number(name);
    return name in this.#fields ? undefined : whenAbsent;
  }

  /** true or false. */
  flag(name: string, fallback: boolean): boolean {
    const value = this.raw(name) ?? fallback;
    if (typeof value !== 'boolean') throw this.fault(name, 'true or false', value);
    return value;
  }

  /** A text. */
  text(name: string, fallback?: string): string {
    const value = this.raw(name) ?? fallback;
    if (typeof value !== 'string') throw this.fault(name, 'a text', value);
    return value;
  }

  /**
   * An object, or undefined where the field is absent or null.
   * @param defaults what its fields are where it does not have them
   */
  object(name: string, defaults: Readonly<Record<string, unknown>> = {}): ConfigReader | undefined {
    const value = this.raw(name);
    if (value === undefined) return undefined;
    if (typeof value !== 'object' || Array.isArray(value)) throw this.fault(name, 'an object', value);
    return new ConfigReader({ ...defaults, ...value }, `${this.#where}: ${name}`);
  }

  /** A list of numbers. */
  numbers(name: string): number[] | undefined {
    const value = this.raw(name);
    if (value === undefined) return undefined;
    if (!Array.isArray(value) || value.some((item) => typeof item !== 'number'))
      throw this.fault(name, 'a list of numbers', value);
    return value as number[];
  }

  /** A list of texts. */
  texts(name: string): string[] | undefined {
    const value = this.raw(name);
    if (value === undefined) return undefined;
    if (!Array.isArray(value) || value.some((item) => typeof item !== 'string'))
      throw this.fault(name, 'a list of texts', value);
    return value as string[];
  }

  /** Insists on the one value that is implemented. */
  expect(name: string, only: unknown, fallback: unknown = only): void {
    const value = this.raw(name) ?? fallback;
    if (value !== only) throw this.fault(name, JSON.stringify(only), value, 'is not implemented');
  }

  /** Refuses fields that nobody read, unless they are harmless or switched off. */
  finish(): void {
    const left = Object.entries(this.#fields)
      .filter(([name, value]) => !this.#used.has(name) && !isHarmless(name) && !isOff(value))
      .map(([name, value]) => `${name} = ${JSON.stringify(value)}`);
    if (left.length > 0) {
      throw new AppError(
        'MODEL_INVALID',
        `${this.#where}: fields that this engine does not implement: ${left.join(', ')}`,
      );
    }
  }

  /** The error for a field with a value that cannot be used. */
  fault(name: string, wanted: string, value: unknown, verb = 'cannot be used'): AppError {
    const shown = value === undefined ? 'is missing' : `${JSON.stringify(value)} ${verb}`;
    return new AppError('MODEL_INVALID', `${this.#where}: ${name} ${shown}; wanted ${wanted}`);
  }
}

/** Names with a leading underscore are notes of the library that wrote the file. */
function isHarmless(name: string): boolean {
  return name.startsWith('_') || HARMLESS.has(name);
}

/** Values with which a field of any meaning is switched off. */
function isOff(value: unknown): boolean {
  return value === null || value === false || (Array.isArray(value) && value.length === 0);
}
