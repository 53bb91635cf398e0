/**
 * Reads `adapter_config.json` as PEFT's `LoraConfig` (fields: huggingface/peft, `tuners/lora/config.py`). Every key is
 * honoured, known to be harmless, or refused by name; what decides is in {@link ./peft-fields.ts}.
 */
import { Faults } from './faults.js';
import { checkFields } from './peft-fields.js';
import { isJsonObject, type JsonObject, type JsonValue, parseStrictJson } from './strict-json.js';

/** A list of name endings or one regular expression; null = not given. */
export type ModuleMatcher = readonly string[] | string | null;

/** What of an adapter's config decides what it does. */
export interface PeftConfig {
  readonly r: number;
  readonly loraAlpha: number;
  readonly useRslora: boolean;
  readonly useDora: boolean;
  /** True: lora_B has a bias. */
  readonly loraBias: boolean;
  /** Which base biases the file replaces. */
  readonly bias: 'none' | 'all' | 'lora_only';
  /** In file order: the first key that matches wins. */
  readonly rankPattern: readonly (readonly [string, number])[];
  readonly alphaPattern: readonly (readonly [string, number])[];
  readonly targetModules: ModuleMatcher;
  readonly excludeModules: ModuleMatcher;
  /** Layer numbers; null = all. */
  readonly layersToTransform: readonly number[] | null;
  readonly layersPattern: readonly string[];
  readonly modulesToSave: readonly string[];
  /** Module name (null = the token embedding) -> ids of its replaced rows, in the order of the file's rows. */
  readonly trainableTokens: readonly (readonly [string | null, readonly number[]])[];
  /** aLoRA's invocation sequence; null = a plain adapter. */
  readonly invocationTokens: readonly number[] | null;
  readonly fanInFanOut: boolean;
  readonly ensureWeightTying: boolean;
  /** Name of the base in the config, '' if absent. */
  readonly baseModel: string;
}

class FieldReader {
  private readonly source: JsonObject;
  private readonly faults: Faults;

  constructor(source: JsonObject, faults: Faults) {
    this.source = source;
    this.faults = faults;
  }

  private wrong<T>(key: string, right: string, fallback: T): T {
    const text = JSON.stringify(this.source[key]) ?? 'nothing';
    const shown = text.length > 100 ? `${text.slice(0, 100)}...` : text;
    this.faults.add(`adapter_config.json: ${key} is ${shown}; ${right} would be right`);
    return fallback;
  }

  flag(key: string): boolean {
    const value = this.source[key] ?? false;
    return typeof value === 'boolean' ? value : this.wrong(key, 'true or false', false);
  }

  /** `fallback` where the key is absent; null is no rank, as PEFT sees it. */
  rank(key: string, fallback: number): number {
    const value = key in this.source ? this.source[key]! : fallback;
    return isRank(value) ? value : this.wrong(key, 'an integer from 1 to 65536', fallback);
  }

  /** `fallback` where the key is absent; null is no number, as PEFT sees it: nothing is scaled by a guess. */
  number(key: string, fallback: number): number {
    const value = key in this.source ? this.source[key]! : fallback;
    return typeof value === 'number' ? value : this.wrong(key, 'a number', fallback);
  }

  strings(key: string): string[] {
    const value = this.source[key] ?? [];
    if (Array.isArray(value) && value.every(isName)) return value;
    return this.wrong(key, 'a list of names', []);
  }

  matcher(key: string): ModuleMatcher {
    const value = this.source[key] ?? null;
    if (value === null || (typeof value === 'string' && value !== '')) return value;
    return value === '' ? null : this.strings(key);
  }

  /** One number or a list of them. */
  integers(key: string): number[] | null {
    const value = this.source[key] ?? null;
    if (value === null) return null;
    const list = Array.isArray(value) ? value : [value];
    return list.every(isIndex) ? list : this.wrong(key, 'an integer >= 0 or a list of them', null);
  }

  pattern(key: string, test: (value: JsonValue) => value is number, right: string): [string, number][] {
    const value = this.source[key] ?? null;
    if (value === null) return [];
    if (!isJsonObject(value)) return this.wrong(key, `an object of name -> ${right}`, []);
    const entries = Object.entries(value);
    if (!entries.every((entry): entry is [string, number] => test(entry[1]))) {
      return this.wrong(key, `an object of name -> ${right}`, []);
    }
    return entries;
  }

  tokens(key: string): [string | null, number[]][] {
    const value = this.source[key] ?? null;
    if (value === null) return [];
    if (Array.isArray(value) && value.every(isIndex)) return value.length === 0 ? [] : [[null, value]];
    if (isJsonObject(value)) {
      const entries = Object.entries(value);
      const isList = (list: JsonValue): list is number[] => Array.isArray(list) && list.every(isIndex);
      if (entries.every((entry): entry is [string, number[]] => isList(entry[1]))) return entries;
    }
    return this.wrong(key, 'a list of token ids, or an object of module -> list of token ids', []);
  }

  bias(): PeftConfig['bias'] {
    const value = this.source.bias ?? 'none';
    if (value === 'none' || value === 'all' || value === 'lora_only') return value;
    return this.wrong('bias', '"none", "all" or "lora_only"', 'none');
  }
}

const isName = (value: JsonValue): value is string => typeof value === 'string' && value !== '';
const isIndex = (value: JsonValue): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
const isRank = (value: JsonValue): value is number => isIndex(value) && value >= 1 && value <= 65_536;
const isNumber = (value: JsonValue): value is number => typeof value === 'number';

function readRoot(source: string | Uint8Array): JsonObject {
  const faults = new Faults();
  try {
    const value = parseStrictJson(source);
    if (isJsonObject(value)) return value;
    faults.add('adapter_config.json: not a JSON object');
  } catch (error) {
    faults.add(`adapter_config.json: not valid JSON: ${(error as Error).message}`);
  }
  faults.check();
  throw new Error('unreachable');
}

/**
 * Parses an adapter's config.
 * @throws AppError ADAPTER_INVALID or ADAPTER_UNSUPPORTED that lists every key at fault
 */
export function parsePeftConfig(source: string | Uint8Array): PeftConfig {
  const root = readRoot(source);
  const faults = new Faults();
  checkFields(root, faults);
  faults.check();
  const read = new FieldReader(root, faults);
  const layersPattern = root.layers_pattern;
  const config: PeftConfig = {
    r: read.rank('r', 8),
    loraAlpha: read.number('lora_alpha', 8),
    useRslora: read.flag('use_rslora'),
    useDora: read.flag('use_dora'),
    loraBias: read.flag('lora_bias'),
    bias: read.bias(),
    rankPattern: read.pattern('rank_pattern', isRank, 'integer from 1 to 65536'),
    alphaPattern: read.pattern('alpha_pattern', isNumber, 'number'),
    targetModules: read.matcher('target_modules'),
    excludeModules: read.matcher('exclude_modules'),
    layersToTransform: read.integers('layers_to_transform'),
    layersPattern: typeof layersPattern === 'string' ? [layersPattern].filter(isName) : read.strings('layers_pattern'),
    modulesToSave: read.strings('modules_to_save'),
    trainableTokens: read.tokens('trainable_token_indices'),
    invocationTokens: read.integers('alora_invocation_tokens'),
    fanInFanOut: read.flag('fan_in_fan_out'),
    ensureWeightTying: read.flag('ensure_weight_tying'),
    baseModel: typeof root.base_model_name_or_path === 'string' ? root.base_model_name_or_path : '',
  };
  if (config.useDora && config.loraBias) faults.add('adapter_config.json: use_dora and lora_bias exclude each other');
  if (typeof config.targetModules === 'string' && config.layersToTransform !== null) {
    faults.add('adapter_config.json: layers_to_transform needs target_modules as a list, not as a string');
  }
  if (config.invocationTokens !== null && config.invocationTokens.length === 0) {
    faults.add('adapter_config.json: alora_invocation_tokens is empty; null would switch it off');
  }
  faults.check();
  return config;
}
