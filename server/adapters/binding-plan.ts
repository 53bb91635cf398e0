/**
 * Decides, from names and shapes alone, which tensor of an adapter goes where. Both directions are checked: every
 * tensor has a place that the config asks for, and everything that the config promises has its tensors.
 */
import type { Faults } from './faults.js';
import { resizeBase, vocabularyOf } from './own-vocabulary.js';
import type { PeftConfig } from './peft-config.js';
import type { TensorInfo } from './safetensors.js';
import { type Promised, promisedModules } from './target-match.js';
import { isFloatDtype } from './tensor-dtype.js';
import { type ParsedTensorName, parseTensorName, type TensorPart } from './tensor-name.js';
import { promisedTokens } from './trained-tokens.js';
import type { AdapterBase, TargetModule } from './types.js';

/** A tensor of the adapter and the file it is in. */
export type AdapterTensor = TensorInfo & { readonly label: string };

/** What a tensor is used for: a part of the adaptation, or only a copy of the base to compare with. */
export type SlotUse =
  | Exclude<TensorPart, 'base_layer.weight' | 'original_module.bias'>
  | 'base weight'
  | 'base bias'
  /** The bias of a module that is replaced as a whole: PEFT saves it with bias = "all", and nothing uses it. */
  | 'replaced bias';

/** One tensor's place. */
export interface Slot {
  readonly tensor: AdapterTensor;
  readonly module: TargetModule;
  readonly use: SlotUse;
  /** True: another tensor has this place, too, and must hold the same values. */
  readonly again: boolean;
}

/** Where every tensor goes. */
export interface BindingPlan {
  /** The base, with as many rows as the adapter's tables have. */
  readonly base: AdapterBase;
  readonly slots: readonly Slot[];
  readonly promised: Promised;
  /** Module -> token ids whose rows are replaced, in the order of the file's rows. */
  readonly tokens: ReadonlyMap<string, readonly number[]>;
}

/** "file: tensor name" for messages. */
export function tensorLabel(tensor: AdapterTensor): string {
  return `${tensor.label}: tensor ${JSON.stringify(tensor.name)}`;
}

/** Shape of a module's stored base weight. */
function weightShape(module: TargetModule): number[] {
  if (module.kind === 'norm') return [module.outFeatures];
  if (module.kind === 'embedding' || module.conv1d) return [module.inFeatures, module.outFeatures];
  return [module.outFeatures, module.inFeatures];
}

/** Name of the base tensor that a module's weight or bias is read from. */
export function baseTensorName(module: TargetModule, what: 'weight' | 'bias', base: AdapterBase): string {
  const name =
    what === 'weight' && base.tiedHead && module.name === base.headModule ? base.embeddingModule : module.name;
  return `${name}.${what}`;
}

/** Decides the use of a tensor, or says why it has none. */
function useOf(parsed: ParsedTensorName, plan: PlanContext): SlotUse | string {
  const { module, part } = parsed;
  const { config, promised, base } = plan;
  const { name, kind } = module;
  const targeted = promised.lora.has(name);
  const isVocabulary = name === base.embeddingModule || name === base.headModule;
  switch (part) {
    case 'base_layer.weight':
      return 'base weight';
    case 'weight':
      if (promised.saved.has(name)) return 'weight';
      if (isVocabulary) return 'base weight'; // PEFT saves both tables along when the vocabulary was resized.
      return `it is a whole weight, but modules_to_save does not name ${name}`;
    case 'bias': {
      const replaces = promised.saved.has(name) || config.bias === 'all' || (config.bias === 'lora_only' && targeted);
      if (!module.hasBias) return `the base has no bias at ${name}`;
      if (replaces) return 'bias';
      return isVocabulary ? 'base bias' : `it is a base bias, but the config says bias = "${config.bias}"`;
    }
    case 'original_module.bias':
      return promised.saved.has(name) ? 'replaced bias' : `modules_to_save does not name ${name}`;
    case 'trainable_tokens_delta':
      return plan.tokens.has(name) ? part : `trainable_token_indices does not name ${name}`;
    default:
  }
  if (!targeted) return `the config does not target ${name}`;
  const embeddingPart = part === 'lora_embedding_A' || part === 'lora_embedding_B';
  if (part !== 'lora_magnitude_vector' && embeddingPart !== (kind === 'embedding'))
    return `${name} is not ${embeddingPart ? 'an embedding' : 'a linear layer'}`;
  if (part === 'lora_magnitude_vector' && !config.useDora) return 'it belongs to DoRA, but use_dora is false';
  if (part === 'lora_B.bias' && !config.loraBias) return 'it is a bias of lora_B, but lora_bias is false';
  return part;
}

/** Shapes that a tensor of this use may have; the first is the usual one. */
function shapesOf(slot: Pick<Slot, 'module' | 'use'>, plan: PlanContext): number[][] {
  const { module, use } = slot;
  const { inFeatures, outFeatures, name } = module;
  const rank = plan.promised.lora.get(name)?.rank ?? 0;
  switch (use) {
    case 'lora_A':
    case 'lora_embedding_A':
      return [[rank, inFeatures]];
    case 'lora_B':
    case 'lora_embedding_B':
      return [[outFeatures, rank]];
    case 'lora_B.bias':
    case 'bias':
    case 'base bias':
    case 'replaced bias':
      return [[outFeatures]];
    case 'lora_magnitude_vector':
      return [[outFeatures], [1, outFeatures]];
    case 'trainable_tokens_delta':
      return [[plan.tokens.get(name)?.length ?? 0, module.kind === 'embedding' ? outFeatures : inFeatures]];
    case 'weight':
    case 'base weight':
      return [weightShape(module)];
  }
}

function checkShape(slot: Slot, plan: PlanContext, faults: Faults): void {
  const { tensor, use, module } = slot;
  if (!isFloatDtype(tensor.dtype)) {
    faults.add(`${tensorLabel(tensor)}: stored as ${tensor.dtype}; F32, F16, BF16 or F64 would be right`);
    return;
  }
  const shapes = shapesOf(slot, plan);
  if (shapes.some((shape) => shape.length === tensor.shape.length && shape.every((n, i) => n === tensor.shape[i])))
    return;
  const is = `[${tensor.shape.join(', ')}]`;
  const right = `[${shapes[0]!.join(', ')}]`;
  const rank = plan.promised.lora.get(module.name)?.rank;
  const ofRank = use.startsWith('lora_') && rank !== undefined ? ` (rank ${rank} by the config)` : '';
  faults.add(`${tensorLabel(tensor)}: shape ${is} does not fit ${module.name}; ${right}${ofRank} would be right`);
}

/** Uses that a module must have tensors for. */
function requiredUses(module: TargetModule, plan: PlanContext): SlotUse[] {
  const { config, promised } = plan;
  const uses: SlotUse[] = [];
  const targeted = promised.lora.has(module.name);
  if (targeted && module.kind === 'embedding') uses.push('lora_embedding_A', 'lora_embedding_B');
  else if (targeted) {
    uses.push('lora_A', 'lora_B');
    if (config.loraBias) uses.push('lora_B.bias');
  }
  if (targeted && config.useDora) uses.push('lora_magnitude_vector');
  const saved = promised.saved.has(module.name);
  if (saved) uses.push('weight');
  const replacesBias = saved || config.bias === 'all' || (config.bias === 'lora_only' && targeted);
  if (module.hasBias && replacesBias) uses.push('bias');
  if (plan.tokens.has(module.name)) uses.push('trainable_tokens_delta');
  return uses;
}

/**
 * What PEFT may write twice: by the module, and by the copy of it that is trained; by both modules of a tied table; DoRA's
 * magnitudes of the embedding and the head with and without `.weight`, where their tables are saved along.
 */
const MAY_REPEAT: ReadonlySet<SlotUse> = new Set(['weight', 'bias', 'trainable_tokens_delta', 'lora_magnitude_vector']);

/** The trained rows of a tied head are those of the embedding, unless the config gives it rows of its own. */
function tiedTokens(parsed: ParsedTensorName | string, { base, tokens }: PlanContext): ParsedTensorName | string {
  if (typeof parsed === 'string' || parsed.part !== 'trainable_tokens_delta' || !base.tiedHead) return parsed;
  if (parsed.module.name !== base.headModule || tokens.has(base.headModule)) return parsed;
  return { ...parsed, module: base.modules.get(base.embeddingModule)! };
}

/** Whether the adapter's paths are those of the model without its head; noted if only some are. */
function isHeadless(tensors: Iterable<AdapterTensor>, base: AdapterBase, faults: Faults): boolean {
  let first: { readonly tensor: AdapterTensor; readonly headless: boolean } | undefined;
  let head = false;
  for (const tensor of tensors) {
    const parsed = parseTensorName(tensor.name, base);
    if (typeof parsed === 'string') continue;
    if (parsed.module.name === base.headModule) {
      head = true; // Then the model had one, and it is the prefix that is shorter.
      continue;
    }
    first ??= { tensor, headless: parsed.headless };
    if (first.headless === parsed.headless) continue;
    faults.add(
      `${tensorLabel(tensor)}: its path and that of tensor ${JSON.stringify(first.tensor.name)} begin at different ` +
        'modules of the base',
    );
    return false;
  }
  return first?.headless === true && !head;
}

interface PlanContext {
  readonly config: PeftConfig;
  readonly base: AdapterBase;
  readonly promised: Promised;
  readonly tokens: ReadonlyMap<string, readonly number[]>;
}

/** Plans the binding; whatever does not fit is noted in `faults`, and the plan is only of use if none was. */
export function planBinding(
  tensors: ReadonlyMap<string, AdapterTensor>,
  config: PeftConfig,
  served: AdapterBase,
  faults: Faults,
): BindingPlan {
  const base = resizeBase(served, vocabularyOf(tensors.values(), served, faults));
  const headless = isHeadless(tensors.values(), base, faults);
  const promised = promisedModules(config, base, headless, faults);
  const tokens = promisedTokens(config, base, faults);
  const plan: PlanContext = { config, base, promised, tokens };
  if (promised.lora.size + promised.saved.size + tokens.size === 0 && config.bias !== 'all') {
    const targets = JSON.stringify(config.targetModules) ?? 'null';
    faults.add(
      `adapter_config.json: target_modules ${targets.slice(0, 200)} matches no module of this ${base.modelType} base`,
    );
  }
  const slots: Slot[] = [];
  const taken = new Map<string, AdapterTensor>();
  let adapterName: string | undefined;
  for (const tensor of tensors.values()) {
    const parsed = tiedTokens(parseTensorName(tensor.name, base), plan);
    const use = typeof parsed === 'string' ? parsed : useOf(parsed, plan);
    if (typeof parsed === 'string' || !isSlotUse(use)) {
      faults.add(`${tensorLabel(tensor)}: ${use}`);
      continue;
    }
    if (parsed.adapter !== '') {
      adapterName ??= parsed.adapter;
      if (adapterName !== parsed.adapter) {
        faults.add(`${tensorLabel(tensor)}: belongs to an adapter ${parsed.adapter}, other tensors to ${adapterName}`);
      }
    }
    const place = `${parsed.module.name} ${use}`;
    const other = taken.get(place);
    const again = other !== undefined;
    if (again && !MAY_REPEAT.has(use)) {
      faults.add(`${tensorLabel(tensor)}: has the same place as tensor ${JSON.stringify(other.name)}`);
      continue;
    }
    if (!again) taken.set(place, tensor);
    const slot: Slot = { tensor, module: parsed.module, use, again };
    checkShape(slot, plan, faults);
    slots.push(slot);
  }
  const labels = new Set(Array.from(tensors.values(), (tensor) => tensor.label));
  const file = labels.size === 1 ? [...labels][0] : 'adapter_model.safetensors';
  for (const module of base.modules.values()) {
    if (headless && module.name === base.headModule) continue;
    for (const use of requiredUses(module, plan)) {
      if (!taken.has(`${module.name} ${use}`)) faults.add(`${file}: there is no ${use} for ${module.name}`);
    }
  }
  requireNewRows(served, plan, taken, file!, faults);
  return { base, slots, promised, tokens };
}

const SLOT_USES: ReadonlySet<string> = new Set<SlotUse>([
  'lora_A',
  'lora_B',
  'lora_B.bias',
  'lora_embedding_A',
  'lora_embedding_B',
  'lora_magnitude_vector',
  'trainable_tokens_delta',
  'weight',
  'bias',
  'base weight',
  'base bias',
  'replaced bias',
]);

/** Ids that the base does not have need rows in both tables; PEFT leaves a table out that is not a target. */
function requireNewRows(
  served: AdapterBase,
  { base, promised }: PlanContext,
  taken: ReadonlyMap<string, AdapterTensor>,
  file: string,
  faults: Faults,
): void {
  if (base.vocabSize <= served.vocabSize) return;
  const copied = (name: string) => taken.has(`${name} base weight`);
  const { embeddingModule, headModule } = base;
  for (const name of [embeddingModule, headModule]) {
    // One table of a tied model stands for both.
    const known =
      promised.saved.has(name) || copied(name) || (base.tiedHead && (copied(embeddingModule) || copied(headModule)));
    if (known) continue;
    faults.add(
      `${file}: the vocabulary has ${base.vocabSize} rows, the base ${served.vocabSize}, but there is no weight for the ` +
        `new rows of ${name}; save_embedding_layers writes it where neither table is a target, modules_to_save always`,
    );
  }
}

function isSlotUse(use: string): use is SlotUse {
  return SLOT_USES.has(use);
}
