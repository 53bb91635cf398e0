/**
 * Turns an adapter's files into a {@link BoundAdapter}: names and shapes are planned first, then each tensor is read
 * once, hashed, converted and put in its place. Either everything is bound or an AppError lists what is not.
 */
import { AppError } from '../errors.js';
import type { AdapterText } from './adapter-text.js';
import { assembleAdapter, type ModuleParts } from './assemble.js';
import { type BaseCheck, foreignBase } from './base-identity.js';
import { type BindingPlan, baseTensorName, planBinding, type Slot, type SlotUse, tensorLabel } from './binding-plan.js';
import { checkCombinations } from './combinations.js';
import { AdapterDigest } from './digest.js';
import { Faults } from './faults.js';
import { isResized } from './own-vocabulary.js';
import type { PeftConfig } from './peft-config.js';
import type { SafetensorsSet } from './safetensors-set.js';
import { type FloatDtype, firstNonFinite, toFloat32 } from './tensor-dtype.js';
import type { AdapterBase, BoundAdapter } from './types.js';
import { checkTied } from './weight-tying.js';

/** Limits of one binding. */
export interface BindOptions {
  /** Most bytes that the bound weights may take; more is ADAPTER_MEMORY_EXHAUSTED before anything is read. */
  readonly maxBytes?: number | undefined;
  /** What to do where the config names another base; default warn. */
  readonly baseCheck?: BaseCheck | undefined;
  /** Reads the tokenizer files beside the adapter, as far as ids are below `size`. */
  readonly readText?: ((size: number) => Promise<AdapterText | undefined>) | undefined;
}

/** Relative rounding of a stored type: how far a saved copy of a base weight may be from the base. */
const ROUNDING: Readonly<Record<FloatDtype, number>> = { F64: 2 ** -22, F32: 2 ** -22, F16: 2 ** -10, BF16: 2 ** -7 };

/** Uses of which nothing is kept. */
const NOT_BOUND: ReadonlySet<SlotUse> = new Set(['base weight', 'base bias', 'replaced bias']);

/** Bytes of the bound weights as float32, from the plan. */
function plannedBytes(plan: BindingPlan): number {
  let bytes = 0;
  for (const { tensor, use, again } of plan.slots) {
    if (!again && !NOT_BOUND.has(use)) bytes += tensor.shape.reduce((n, dim) => n * dim, 4);
  }
  return bytes;
}

/** Compares a copy of a base tensor with it. Rows that the base does not have are kept for its resized view. */
async function compareWithBase(slot: Slot, values: Float32Array, base: AdapterBase, faults: Faults): Promise<void> {
  const what = slot.use === 'base bias' ? 'bias' : 'weight';
  const served = isResized(base) ? base.served : base;
  const own = await served.readWeight(baseTensorName(slot.module, what, base));
  if (isResized(base) && values.length > own.length) {
    base.beyond.set(`${slot.module.name}.${what}`, values.slice(own.length));
  }
  const tolerance = ROUNDING[slot.tensor.dtype as FloatDtype];
  for (let i = 0; i < Math.min(values.length, own.length); i += 1) {
    if (Math.abs(values[i]! - own[i]!) <= tolerance * Math.abs(own[i]!) + 1e-7) continue;
    faults.add(
      `${tensorLabel(slot.tensor)}: this copy of the base weight of ${slot.module.name} differs from the served base ` +
        `(element ${i} is ${values[i]}, the base has ${own[i]}): the adapter was trained on another base`,
    );
    return;
  }
}

/** What is in the file twice must be the same up to the rounding of what it is stored as. */
function compareTwice(slot: Slot, values: Float32Array, other: Float32Array, plan: BindingPlan, faults: Faults): void {
  const { module, use, tensor } = slot;
  const stored = plan.slots.filter((one) => one.module.name === module.name && one.use === use);
  const rounding = Math.max(...stored.map((one) => ROUNDING[one.tensor.dtype as FloatDtype]));
  const at = values.findIndex((value, i) => Math.abs(value - other[i]!) > rounding * Math.abs(value) + 1e-7);
  if (at < 0) return;
  faults.add(
    `${tensorLabel(tensor)}: element ${at} is ${values[at]}, but another tensor for the ${use} of ${module.name} has ` +
      `${other[at]}: they must be equal`,
  );
}

/** Tensors that are read while another one is worked on: enough that the disk never waits, little to hold. */
const READ_AHEAD = 4;

/** Reads the slots' tensors in their order, a few ahead. */
async function* readAhead(
  files: SafetensorsSet,
  slots: readonly Slot[],
): AsyncGenerator<{ readonly slot: Slot; readonly raw: Buffer }> {
  const ahead: Promise<Buffer>[] = [];
  try {
    for (const [at, slot] of slots.entries()) {
      for (const next of slots.slice(at + ahead.length, at + READ_AHEAD)) ahead.push(files.readRaw(next.tensor.name));
      yield { slot, raw: await ahead.shift()! };
    }
  } finally {
    // Files are closed only when nothing reads from them any more.
    await Promise.allSettled(ahead);
  }
}

/** Reads, hashes and converts every tensor, in the order of names. */
async function readParts(
  files: SafetensorsSet,
  plan: BindingPlan,
  digest: AdapterDigest,
  base: AdapterBase,
  faults: Faults,
): Promise<Map<string, ModuleParts>> {
  const parts = new Map<string, ModuleParts>();
  const slots = [...plan.slots].sort((x, y) => (x.tensor.name < y.tensor.name ? -1 : 1));
  for await (const { slot, raw } of readAhead(files, slots)) {
    const { tensor, module, use } = slot;
    digest.add(tensor, raw);
    const values = toFloat32(raw, tensor.dtype as FloatDtype);
    const bad = firstNonFinite(values);
    if (bad >= 0) {
      faults.add(`${tensorLabel(tensor)}: element ${bad} is ${values[bad]}; weights must be finite`);
      continue;
    }
    if (use === 'replaced bias') continue;
    if (use === 'base weight' || use === 'base bias') {
      await compareWithBase(slot, values, base, faults);
      continue;
    }
    let part = parts.get(module.name);
    if (part === undefined) {
      part = { module, tensors: new Map() };
      parts.set(module.name, part);
    }
    const same = part.tensors.get(use);
    if (same === undefined) part.tensors.set(use, values);
    else {
      compareTwice(slot, values, same, plan, faults);
      // The module's own name counts, as when PEFT loads the file.
      if (!tensor.name.includes('.modules_to_save.')) part.tensors.set(use, values);
    }
  }
  return parts;
}

/**
 * Binds an adapter to a base.
 * @throws AppError ADAPTER_INVALID or ADAPTER_UNSUPPORTED that lists every fault; ADAPTER_MEMORY_EXHAUSTED
 */
export async function bindAdapter(
  files: SafetensorsSet,
  config: PeftConfig,
  base: AdapterBase,
  options: BindOptions = {},
): Promise<BoundAdapter> {
  const faults = new Faults();
  const { baseCheck = 'warn' } = options;
  const foreign = baseCheck === 'strict' ? foreignBase(config.baseModel, base) : undefined;
  if (foreign !== undefined) faults.add(`adapter_config.json: ${foreign}`);
  const plan = planBinding(files.tensors, config, base, faults);
  checkCombinations(config, plan.promised, plan.tokens, plan.base, faults);
  faults.check();
  const bytes = plannedBytes(plan);
  if (options.maxBytes !== undefined && bytes > options.maxBytes) {
    throw new AppError(
      'ADAPTER_MEMORY_EXHAUSTED',
      `the adapter needs ${bytes} bytes, more than the whole budget of ${options.maxBytes} bytes`,
      { metadata: { needed: String(bytes), budget: String(options.maxBytes) } },
    );
  }
  const text = await options.readText?.(plan.base.vocabSize);
  const digest = new AdapterDigest(config, text);
  const parts = await readParts(files, plan, digest, plan.base, faults);
  checkTied(config, plan.base, parts, faults);
  faults.check();
  const made = { digest: digest.finish(), faults, baseCheck, text };
  const adapter = await assembleAdapter({ config, base: plan.base, plan, parts, ...made });
  faults.check();
  return adapter;
}
