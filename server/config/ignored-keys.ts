/**
 * Every key of a `serving.properties` that is known and has no effect, once: reading it and `docs/configuration.md` come from
 * here. It is remarked on in the log, unless its value asks for what is the case anyway.
 */
import { type EffectiveKey, SERVING_KEYS } from './serving-keys.js';
import { anyText, decimal, truth, type ValueKind, whole, wordOrWhole } from './serving-values.js';

/** Keys that have no effect, and why. */
export interface IgnoredKeys {
  readonly keys: readonly string[];
  readonly value: ValueKind<unknown>;
  /** Why, as the end of "... is ignored: ..."; for the documentation, too. */
  readonly why: string;
  /** Values that ask for what is the case anyway, in lower case: no remark. */
  readonly silent?: readonly string[];
  readonly variables?: Readonly<Record<string, string>>;
}

/** Keys that are known and have no effect. */
export const IGNORED_KEYS: readonly IgnoredKeys[] = [
  {
    keys: ['option.max_loras', 'option.max_cpu_loras'],
    value: whole(1),
    why: 'adapters have no slots; `--adapter-bytes` is the budget, and a step takes any number of them',
  },
  {
    keys: ['option.lora_extra_vocab_size'],
    value: whole(0),
    why: 'the tokens that an adapter brings are taken from its own files',
  },
  {
    keys: ['option.long_lora_scaling_factors'],
    value: anyText,
    why: "the scaling comes from each adapter's own config",
  },
  {
    keys: ['option.lora_dtype'],
    value: anyText,
    silent: ['auto'],
    why: 'adapters are applied in the precision that the model runs in',
  },
  { keys: ['option.fully_sharded_loras'], value: truth, silent: ['false'], why: 'nothing is sharded' },
  {
    keys: ['option.rolling_batch'],
    value: anyText,
    silent: ['auto', 'vllm', 'lmi-dist', 'trtllm', 'scheduler', 'neuronx'],
    why: 'batches are always continuous',
  },
  {
    keys: ['option.async_mode', 'option.enable_streaming'],
    value: anyText,
    silent: ['true', 'false'],
    why: 'a request chooses',
  },
  {
    keys: ['max_batch_delay', 'max_idle_time'],
    value: whole(0),
    why: 'rows join at the next step, and no worker idles',
  },
  {
    keys: ['minWorkers', 'maxWorkers', 'cpu.minWorkers', 'cpu.maxWorkers', 'gpu.minWorkers', 'gpu.maxWorkers'],
    value: whole(-1),
    silent: ['1', '-1'],
    why: '`--engines` and `--threads` say how many threads work for a model',
    variables: { SAGEMAKER_NUM_MODEL_WORKERS: 'maxWorkers' },
  },
  { keys: ['load_on_devices'], value: anyText, silent: ['*', '0', 'cpu'], why: '`--device` chooses' },
  {
    keys: ['option.tensor_parallel_degree', 'option.pipeline_parallel_degree', 'option.data_parallel_size'],
    value: wordOrWhole(1, 'max', 'auto'),
    silent: ['1', 'max', 'auto'],
    why: 'a model runs on one device',
    variables: { TENSOR_PARALLEL_DEGREE: 'option.tensor_parallel_degree' },
  },
  {
    keys: ['option.trust_remote_code'],
    value: truth,
    silent: ['false'],
    why: 'no code of a model is ever run',
    variables: {
      HF_MODEL_TRUST_REMOTE_CODE: 'option.trust_remote_code',
      HF_TRUST_REMOTE_CODE: 'option.trust_remote_code',
    },
  },
  {
    keys: ['option.task', 'application'],
    value: anyText,
    silent: ['auto', 'text-generation', 'nlp/text_generation'],
    why: 'decoders generate text; nothing else is served',
    variables: { HF_TASK: 'option.task' },
  },
  {
    keys: ['option.output_formatter'],
    value: anyText,
    silent: ['json', 'jsonlines', 'auto'],
    why: 'a request chooses by `accept`',
  },
  { keys: ['option.tgi_compat'], value: truth, silent: ['false'], why: 'answers are always in the original form' },
  {
    keys: ['option.handler'],
    value: anyText,
    silent: ['handle'],
    why: 'the function of a custom handler is always `handle`',
  },
  {
    keys: ['option.model_loading_timeout'],
    value: whole(1),
    why: '`--source-timeout-ms` bounds a download; loading itself is not interrupted',
    variables: { SAGEMAKER_STARTUP_TIMEOUT: 'option.model_loading_timeout' },
  },
  {
    keys: ['option.max_model_len', 'option.max_rolling_batch_prefill_tokens', 'option.max_num_batched_tokens'],
    value: whole(1),
    why: "the context is the model's, and `--kv-bytes` and `--prefill-chunk` bound the rest",
  },
  {
    keys: ['option.gpu_memory_utilization'],
    value: decimal(0, 1),
    why: '`--kv-bytes` and `--adapter-bytes` are the budgets',
  },
  {
    keys: ['option.enable_chunked_prefill'],
    value: truth,
    silent: ['true'],
    why: 'prompts are always worked on in chunks, `--prefill-chunk` is their most',
  },
  {
    keys: [
      'option.speculative_draft_model',
      'option.draft_model_tp_size',
      'option.speculative_length',
      'option.num_speculative_tokens',
    ],
    value: anyText,
    why: 'no second model guesses tokens; `--lookup-tokens` guesses from the input itself',
  },
  {
    keys: [
      'option.chat_template',
      'option.enable_auto_tool_choice',
      'option.tool_call_parser',
      'option.reasoning_parser',
    ],
    value: anyText,
    why: "the chat template is the model's own; tools are not parsed",
  },
  {
    keys: [
      'option.mpi_mode',
      'option.device_map',
      'option.device_id',
      'option.low_cpu_mem_usage',
      'option.load_in_8bit',
      'option.load_in_4bit',
      'option.load_format',
      'option.disable_flash_attn',
      'option.enforce_eager',
      'option.kv_cache_dtype',
      'option.swap_space',
      'option.block_size',
      'option.parallel_loading',
      'option.is_peft_model',
      'option.use_v2_block_manager',
      'option.use_cython',
      'option.python_executable',
      'option.venv_dir',
      'option.limit_mm_per_prompt',
    ],
    value: anyText,
    why: "it belongs to the original's engines",
  },
  {
    keys: [
      'retry_threshold',
      'chunked_read_timeout',
      'log_request_metric',
      'log_model_metric',
      'metrics_aggregation',
      'translatorFactory',
      'translator',
      'option.properties',
      'fail_fast',
      'health_check_override',
    ],
    value: anyText,
    why: "it belongs to the original's frontend; logs and `/metrics` are always there",
  },
];

/** All names of all keys, those with an effect and aliases included. */
export const KEY_NAMES: readonly string[] = [
  ...Object.values(SERVING_KEYS).flatMap(({ key, aliases = [] }: EffectiveKey<unknown>) => [key, ...aliases]),
  ...IGNORED_KEYS.flatMap(({ keys }) => keys),
];
