/**
 * Every key that a `serving.properties` may have that has an effect, once: reading it and `docs/configuration.md` come from
 * here. A key is honoured (it does here what it does in the original) or mapped (it sets something of this server).
 */
import { MAX_BATCH, MAX_QUEUE } from '../batch-bounds.js';
import { anyText, truth, type ValueKind, whole, words } from './serving-values.js';

/** One key that has an effect. */
export interface EffectiveKey<T> {
  readonly key: string;
  readonly effect: 'honoured' | 'mapped';
  readonly value: ValueKind<T>;
  /** What happens, for the documentation. */
  readonly meaning: string;
  /** Older or other names of the key. */
  readonly aliases?: readonly string[];
  /** Environment variables for it besides `OPTION_*` and `SERVING_*`. */
  readonly variables?: readonly string[];
}

type More = Pick<EffectiveKey<unknown>, 'aliases' | 'variables'>;

function honoured<T>(key: string, value: ValueKind<T>, meaning: string, more: More = {}): EffectiveKey<T> {
  return { key, effect: 'honoured', value, meaning, ...more };
}

function mapped<T>(key: string, value: ValueKind<T>, meaning: string, more: More = {}): EffectiveKey<T> {
  return { key, effect: 'mapped', value, meaning, ...more };
}

const FULL = ['fp32', 'float32', 'float'] as const;
/** Names of half precision, which is not served. */
export const HALF_TYPES = ['fp16', 'bf16', 'float16', 'bfloat16', 'half'] as const;
/** Ways to quantise that mean eight bits here. */
export const INT8_WAYS = ['int8', 'bitsandbytes8', 'static_int8', 'dynamic_int8'] as const;

/** Keys that have an effect. */
export const SERVING_KEYS = {
  engine: honoured(
    'engine',
    anyText,
    '`Python` and `loramux` are accepted; any other is ignored with a warning, as loramux runs every model',
  ),
  modelId: honoured(
    'option.model_id',
    anyText,
    'the weights: a folder or `.gguf` file, absolute or relative to the file; or an `s3://`, `hf://` or `https://` source, or the id of a hub ([sources](sources.md))',
    { aliases: ['option.s3url'], variables: ['HF_MODEL_ID'] },
  ),
  revision: honoured('option.revision', anyText, 'branch, tag or commit of a hub id in `option.model_id`', {
    variables: ['HF_REVISION'],
  }),
  enableLora: honoured(
    'option.enable_lora',
    truth,
    '`false` serves the base only and refuses adapters, merged ones too; default `true`, where the original has `false`',
  ),
  adapters: honoured(
    'option.adapters',
    anyText,
    'folder of adapters to register at start, absolute or relative to the file; default `adapters/`; `--adapters` wins',
  ),
  maxLoraRank: honoured(
    'option.max_lora_rank',
    whole(1),
    'adapters of a greater rank are refused with both numbers, but for merged ones, which have no rank any more; default: any rank, since ranks are not padded',
  ),
  merge: honoured('option.merge', anyText, 'as `--merge`, which wins; no key of the original'),
  entryPoint: honoured(
    'option.entryPoint',
    anyText,
    "a `.ts`, `.js` or `.mjs` file inside the folder that answers for the model ([custom handlers](handlers.md)); the original's own handlers (`djl_python.*`) are ignored with a warning",
  ),
  predictTimeoutS: honoured(
    'option.predict_timeout',
    whole(1, 86_400),
    'seconds for a call of a custom handler; ignored with a warning where there is none',
    { variables: ['PREDICT_TIMEOUT', 'SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS'] },
  ),
  dtype: mapped(
    'option.dtype',
    words('auto', 'int8', ...FULL, ...HALF_TYPES),
    '`fp32`, `int8`, `auto`; half precision counts as `auto` with a warning; `--dtype` wins',
  ),
  quantize: mapped(
    'option.quantize',
    anyText,
    `${INT8_WAYS.map((way) => `\`${way}\``).join(', ')}: dtype \`int8\`, before \`option.dtype\`; any other way is ignored with a warning`,
    { variables: ['HF_MODEL_QUANTIZE'] },
  ),
  maxRollingBatch: mapped(
    'option.max_rolling_batch_size',
    whole(1, MAX_BATCH),
    'as `--max-batch` for this model, which it wins over',
    { aliases: ['option.max_num_seqs'], variables: ['MAX_BATCH_SIZE'] },
  ),
  batchSize: mapped(
    'batch_size',
    whole(1, MAX_BATCH),
    'above 1 the same, where there is no `option.max_rolling_batch_size`; 1 is without effect, as batches are always continuous',
    { aliases: ['max_dynamic_batch_size'] },
  ),
  queueSize: mapped('job_queue_size', whole(1, MAX_QUEUE), 'as `--max-queue` for this model, which it wins over', {
    variables: ['MAX_CONCURRENT_REQUESTS'],
  }),
  prefixCaching: mapped(
    'option.enable_prefix_caching',
    truth,
    '`false`: no prefix cache for this model; default: as `--prefix-cache-bytes` says',
  ),
} as const;

/** Name of a key that has an effect. */
export type ServingKeyName = keyof typeof SERVING_KEYS;

/** Values of the keys that have an effect, where they are there. */
export type ServingValues = {
  -readonly [K in ServingKeyName]?: (typeof SERVING_KEYS)[K] extends EffectiveKey<infer T> ? T : never;
};
