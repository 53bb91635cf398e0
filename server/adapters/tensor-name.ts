/**
 * Reads the tensor names of PEFT adapters: which module of the base, and which part of its adaptation. The names come
 * with PEFT's prefix, with less of it (transformers' own loader, adapters trained on the model without its head), with
 * the adapter's name inside (checkpoints of a running training), and with the marks of wrappers around the model.
 */
import type { AdapterBase, TargetModule } from './types.js';

/** What a tensor is to its module. */
export type TensorPart =
  | 'lora_A'
  | 'lora_B'
  | 'lora_B.bias'
  | 'lora_embedding_A'
  | 'lora_embedding_B'
  | 'lora_magnitude_vector'
  | 'trainable_tokens_delta'
  /** The base's own weight, saved along. */
  | 'base_layer.weight'
  /** The bias of a module that modules_to_save replaces, as it was. */
  | 'original_module.bias'
  | 'weight'
  | 'bias';

/** A tensor name that names a module of the base. */
export interface ParsedTensorName {
  readonly module: TargetModule;
  readonly part: TensorPart;
  /** The adapter's name inside the tensor's name, '' if there is none. */
  readonly adapter: string;
  /** True: its path begins inside the base's body, as that of an adapter trained on the model without its head does. */
  readonly headless: boolean;
}

/** Longest tensor name that is read. */
const MAX_NAME = 1000;
const PEFT_PREFIX = 'base_model.model.';
const PREFIXES = [PEFT_PREFIX, 'base_model.', ''];
/** What headless paths leave out: the body's name, where it is what PEFT's prefix ends with. */
const BODY = 'model.';
const WRAPPERS = /(?<=^|\.)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\./g;

/** Path, then optional adapter name; the first rule whose path is a module of the base decides. */
const RULES: readonly (readonly [RegExp, TensorPart])[] = [
  [/^(.+)\.lora_A(?:\.([^.]+))?\.weight$/, 'lora_A'],
  [/^(.+)\.lora_B(?:\.([^.]+))?\.weight$/, 'lora_B'],
  [/^(.+)\.lora_B(?:\.([^.]+))?\.bias$/, 'lora_B.bias'],
  [/^(.+)\.lora_embedding_A(?:\.([^.]+))?$/, 'lora_embedding_A'],
  [/^(.+)\.lora_embedding_B(?:\.([^.]+))?$/, 'lora_embedding_B'],
  [/^(.+)\.lora_magnitude_vector(?:\.(?!weight$)([^.]+))?(?:\.weight)?$/, 'lora_magnitude_vector'],
  [/^(.+)\.token_adapter\.trainable_tokens_delta(?:\.([^.]+))?$/, 'trainable_tokens_delta'],
  [/^(.+)\.token_adapter\.base_layer\.weight$/, 'base_layer.weight'],
  [/^(.+)\.(?:base_layer|original_module)\.weight$/, 'base_layer.weight'],
  [/^(.+)\.token_adapter\.base_layer\.bias$/, 'bias'],
  [/^(.+)\.base_layer\.bias$/, 'bias'],
  [/^(.+)\.original_module\.bias$/, 'original_module.bias'],
  [/^(.+)\.modules_to_save(?:\.([^.]+))?\.weight$/, 'weight'],
  [/^(.+)\.modules_to_save(?:\.([^.]+))?\.bias$/, 'bias'],
  [/^(.+)\.weight$/, 'weight'],
  [/^(.+)\.bias$/, 'bias'],
];
/** A container in modules_to_save: `mlp.modules_to_save.default.gate_proj.weight` means `mlp.gate_proj.weight`. */
const CONTAINER = /^(.+?)\.modules_to_save\.([^.]+)\.(.+\.(?:weight|bias))$/;
/** The same container as it was; PEFT saves its biases with bias = "all". */
const CONTAINER_BEFORE = /^(.+?)\.original_module\.(.+)\.bias$/;

function parsePath(path: string, base: AdapterBase): Omit<ParsedTensorName, 'headless'> | undefined {
  for (const [rule, part] of RULES) {
    const match = rule.exec(path);
    const module = match === null ? undefined : base.modules.get(match[1]!);
    if (module !== undefined) return { module, part, adapter: match?.[2] ?? '' };
  }
  const before = CONTAINER_BEFORE.exec(path);
  const unused = before === null ? undefined : base.modules.get(`${before[1]}.${before[2]}`);
  if (unused !== undefined) return { module: unused, part: 'original_module.bias', adapter: '' };
  const inside = CONTAINER.exec(path);
  if (inside === null) return undefined;
  const parsed = parsePath(`${inside[1]}.${inside[3]}`, base);
  return parsed === undefined ? undefined : { ...parsed, adapter: inside[2]! };
}

/** A module's path as it is in the model without its head. */
export function headlessPath(name: string): string {
  return name.startsWith(BODY) ? name.slice(BODY.length) : name;
}

/** Reads a tensor name; a string says why it names nothing that could be bound. */
export function parseTensorName(name: string, base: AdapterBase): ParsedTensorName | string {
  if (name.length > MAX_NAME) return `its name has ${name.length} characters, more than ${MAX_NAME}`;
  const plain = name.replace(WRAPPERS, '').replace(/^module\./, '');
  for (const prefix of PREFIXES) {
    if (!plain.startsWith(prefix)) continue;
    const parsed = parsePath(plain.slice(prefix.length), base);
    if (parsed !== undefined) return { ...parsed, headless: prefix !== PEFT_PREFIX && plain.startsWith(PEFT_PREFIX) };
  }
  const layer = /\.(?:layers|h)\.(\d+)\./.exec(plain);
  if (layer !== null && Number(layer[1]) >= base.layerCount) {
    return `layer ${layer[1]} does not exist: the base has ${base.layerCount} layers, 0 to ${base.layerCount - 1}`;
  }
  return 'it names no module of the base that an adapter can change';
}
