/**
 * Which keys of `adapter_config.json` are read, which are harmless, and which would change the forward pass in a way
 * that is not applied. A key that is in no list is fine while it is off (null, false, empty), so that configs of newer
 * PEFT versions load; with any other value it is refused by name, because what it does is not known.
 */
import type { Faults } from './faults.js';
import { isJsonObject, type JsonObject, type JsonValue } from './strict-json.js';

/** Read by {@link ./peft-config.ts}, which checks their values. */
const HONOURED: ReadonlySet<string> = new Set([
  'peft_type',
  'r',
  'lora_alpha',
  'use_rslora',
  'use_dora',
  'lora_bias',
  'bias',
  'rank_pattern',
  'alpha_pattern',
  'target_modules',
  'exclude_modules',
  'layers_to_transform',
  'layers_pattern',
  'modules_to_save',
  'trainable_token_indices',
  'alora_invocation_tokens',
  'init_lora_weights',
  'fan_in_fan_out',
  'ensure_weight_tying',
  'base_model_name_or_path',
]);

/** About training, bookkeeping, or defaults of features that another key switches on. */
const HARMLESS: ReadonlySet<string> = new Set([
  'lora_dropout',
  'inference_mode',
  'task_type',
  'auto_mapping',
  'revision',
  'peft_version',
  'transformers_version',
  'megatron_core',
  'qalora_group_size',
  'loftq_config',
  'eva_config',
  'corda_config',
  'lora_ga_config',
  'runtime_config',
]);

/** What the known features do, for the message. */
const REFUSED: Readonly<Record<string, string>> = {
  layer_replication: 'it stacks base layers anew',
  use_qalora: 'it pools the input of each layer',
  use_bdlora: 'its matrices are block-diagonal',
  arrow_config: 'it routes each token between adapters',
  target_parameters: 'it adapts raw parameters rather than layers',
  velora_config: 'it changes the forward pass',
  kasa_config: 'it changes the base weights',
  monteclora_config: 'it changes the forward pass',
  megatron_config: 'its layers are split over devices',
};

/** Initialisations that leave the base weights alone. */
const PLAIN_INITS: ReadonlySet<string> = new Set(['gaussian', 'eva', 'orthogonal', 'mica', 'true', 'false']);
/** Initialisations that subtract the first A and B from the base: the saved adapter is a difference to another base. */
const CHANGED_BASE = /^(pissa|pissa_niter_\d+|olora|corda|lora_ga)$/;

/** Configs of features that PEFT applies as soon as there is an object, if only for its defaults. */
const ON_WHEN_EMPTY: ReadonlySet<string> = new Set([
  'use_bdlora',
  'arrow_config',
  'velora_config',
  'kasa_config',
  'monteclora_config',
]);

function isOff(key: string, value: JsonValue): boolean {
  if (isJsonObject(value) && ON_WHEN_EMPTY.has(key)) return false;
  if (value === null || value === false || value === '') return true;
  if (Array.isArray(value)) return value.length === 0;
  return isJsonObject(value) && Object.keys(value).length === 0;
}

function show(value: JsonValue): string {
  const text = JSON.stringify(value);
  return text.length > 100 ? `${text.slice(0, 100)}...` : text;
}

function checkInit(value: JsonValue, faults: Faults): void {
  if (value === null || typeof value === 'boolean') return;
  const name = typeof value === 'string' ? value.toLowerCase() : '';
  if (PLAIN_INITS.has(name)) return;
  if (CHANGED_BASE.test(name)) {
    faults.addUnsupported(
      `adapter_config.json: init_lora_weights is ${show(value)}: the adapter was trained on base weights from which ` +
        'its first factors were subtracted; convert it to a plain LoRA (PEFT: save_pretrained with ' +
        'path_initial_model_for_weight_conversion)',
    );
    return;
  }
  if (name === 'loftq') {
    // Its factors make up for the rounding only: PEFT's conversion would not bring the rounded weights along.
    faults.addUnsupported(
      `adapter_config.json: init_lora_weights is ${show(value)}: the adapter was trained on base weights that were ` +
        'quantised for it; serve those (PEFT: get_base_model().save_pretrained), and set init_lora_weights to true',
    );
    return;
  }
  faults.addUnsupported(
    `adapter_config.json: init_lora_weights is ${show(value)}, an initialisation that is not known`,
  );
}

/** Notes a fault for every key that asks for something that is not applied, and for a `peft_type` other than LORA. */
export function checkFields(root: JsonObject, faults: Faults): void {
  const type = root.peft_type ?? null;
  if (type === null) faults.add('adapter_config.json: peft_type is missing; "LORA" would be right');
  else if (type !== 'LORA') {
    faults.addUnsupported(`adapter_config.json: peft_type is ${show(type)}; only "LORA" is supported`);
    return; // The other keys mean something else there.
  }
  checkInit(root.init_lora_weights ?? null, faults);
  for (const [key, value] of Object.entries(root)) {
    if (HONOURED.has(key) || HARMLESS.has(key) || isOff(key, value)) continue;
    const known = Object.hasOwn(REFUSED, key) ? REFUSED[key] : undefined;
    const why = known ?? 'a key that is not known, so what it changes is not known either';
    faults.addUnsupported(`adapter_config.json: ${key} is ${show(value)}: ${why}`);
  }
}
