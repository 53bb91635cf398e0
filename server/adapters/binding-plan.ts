/**
 * Decides, from names and shapes alone, which tensor of an adapter goes where. Both directions are checked: every
 * tensor has a place that the config asks for, and everything that the config promises has its tensors.
 */
import type { Faults } from './faults.js';
import { resizeBase, vocabularyOf } from './own-vocabulary.js';
import type { PeftConfig } from './peft-config.js';
import type { TensorInfo } from './safetensors.js';
import { MAY_REPEAT, type PlanContext, requiredUses, type SlotUse, shapesOf, useOf } from './slot-use.js';
import { type Promised, promisedModules } from './target-match.js';
import { isFloatDtype } from './tensor-dtype.js';
import { type ParsedTensorName, parseTensorName } from './tensor-name.js';
import { promisedTokens } from './trained-tokens.js';
import type { AdapterBase, TargetModule } from './types.js';

/** A tensor of the adapter and the file it is in. */
export type AdapterTensor = TensorInfo & { readonly label: string };

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

/** Why a module is adapted that the config does not name. */
const WHY_TIED = 'the other end of the tied table: with ensure_weight_tying PEFT writes both';

/** "file: tensor name" for messages. */
export function tensorLabel(tensor: AdapterTensor): string {
  return `${tensor.label}: tensor ${JSON.stringify(tensor.name)}`;
}

/** Name of the base tensor that a module's weight or bias is read from. */
export function baseTensorName(module: TargetModule, what: 'weight' | 'bias', base: AdapterBase): string {
  const name =
    what === 'weight' && base.tiedHead && module.name === base.headModule ? base.embeddingModule : module.name;
  return `${name}.${what}`;
}

function checkShape(slot: Slot, plan: PlanContext, faults: Faults): void {
  const { tensor, use, module } = slot;
  if (!isFloatDtype(tensor.dtype)) {
    faults.add(`${tensorLabel(tensor)}: stored as ${tensor.dtype}; F32, F16, BF16 or F64 would be right`);
    return;
  }
  const shapes = shapesOf(module, use, plan);
  if (shapes.some((shape) => shape.length === tensor.shape.length && shape.every((n, i) => n === tensor.shape[i])))
    return;
  const is = `[${tensor.shape.join(', ')}]`;
  const right = `[${shapes[0]!.join(', ')}]`;
  const rank = plan.promised.lora.get(module.name)?.rank;
  const ofRank = use.startsWith('lora_') && rank !== undefined ? ` (rank ${rank} by the config)` : '';
  faults.add(`${tensorLabel(tensor)}: shape ${is} does not fit ${module.name}; ${right}${ofRank} would be right`);
}

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
    if (typeof parsed === 'string') {
      faults.add(`${tensorLabel(tensor)}: ${parsed}`);
      continue;
    }
    const found = useOf(parsed, plan);
    if ('wrong' in found) {
      faults.add(`${tensorLabel(tensor)}: ${found.wrong}`);
      continue;
    }
    const { use } = found;
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
      if (taken.has(`${module.name} ${use}`)) continue;
      const tied = promised.tied.has(module.name) ? `, ${WHY_TIED}` : '';
      faults.add(`${file}: there is no ${use} for ${module.name}${tied}`);
    }
  }
  requireNewRows(served, plan, taken, file!, faults);
  return { base, slots, promised, tokens };
}

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
