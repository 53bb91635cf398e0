/**
 * Turns an adapter's files into a {@link BoundAdapter}: names and shapes are planned first, then each tensor is read
 * once, hashed, converted and put in its place. Either everything is bound or an AppError lists what is not.
 */
import { AppError } from '../errors.js';
import type { AdapterText } from './adapter-text.js';
import { assembleAdapter } from './assemble.js';
import { type BaseCheck, noteForeign } from './base-identity.js';
import { type BindingPlan, planBinding } from './binding-plan.js';
import { checkCombinations } from './combinations.js';
import { type ContentHash, OwnHash } from './content-hash.js';
import { digestHeading } from './digest.js';
import { Faults } from './faults.js';
import type { KnownForms } from './known-forms.js';
import { MatrixCopy } from './matrix-copy.js';
import type { PeftConfig } from './peft-config.js';
import { readParts } from './read-parts.js';
import type { SafetensorsSet } from './safetensors-set.js';
import type { SlotUse } from './slot-use.js';
import type { AdapterBase, BoundAdapter } from './types.js';
import { checkTied } from './weight-tying.js';
import { Windows } from './windows.js';

/** What files are read with. */
export interface ReadingTools {
  readonly windows: Windows;
  readonly copy: MatrixCopy;
  /** A hash that has taken nothing yet, for about so many bytes. */
  hash(bytes: number): ContentHash;
  /** Absent = nothing is known of adapters before. */
  readonly known?: KnownForms | undefined;
}

/** Limits of one binding. */
export interface BindOptions {
  /** Most bytes that the bound weights may take; more is ADAPTER_MEMORY_EXHAUSTED before anything is read. */
  readonly maxBytes?: number | undefined;
  /** What to do where the config names another base; default warn. */
  readonly baseCheck?: BaseCheck | undefined;
  /** Reads the tokenizer files beside the adapter, as far as ids are below `size`. */
  readonly readText?: ((size: number) => Promise<AdapterText | undefined>) | undefined;
  /** Absent = buffers and a hash of its own, in this thread. */
  readonly tools?: ReadingTools | undefined;
}

/** Buffers and a hash for one adapter, in the thread that asks. */
function ownTools(): ReadingTools {
  return { windows: new Windows(2), copy: new MatrixCopy(), hash: () => new OwnHash() };
}

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
  noteForeign(config.baseModel, base, baseCheck, faults);
  const known = options.tools?.known?.plan(files.tensors, config, base);
  const plan = known ?? planBinding(files.tensors, config, base, faults);
  if (known === undefined) checkCombinations(config, plan.promised, plan.tokens, plan.base, faults);
  faults.check();
  options.tools?.known?.keep(files.tensors, config, base, plan);
  const bytes = plannedBytes(plan);
  if (options.maxBytes !== undefined && bytes > options.maxBytes) {
    throw new AppError(
      'ADAPTER_MEMORY_EXHAUSTED',
      `the adapter needs ${bytes} bytes, more than the whole budget of ${options.maxBytes} bytes`,
      { metadata: { needed: String(bytes), budget: String(options.maxBytes) } },
    );
  }
  const text = await options.readText?.(plan.base.vocabSize);
  const { windows, copy, hash: begin } = options.tools ?? ownTools();
  const hash = begin(plan.slots.reduce((sum, { tensor }) => sum + tensor.bytes, 0));
  await hash.update([digestHeading(config, text)]);
  const parts = await readParts({ files, plan, hash, windows, copy, base: plan.base, faults });
  checkTied(config, plan.base, parts, faults);
  faults.check();
  const made = { digest: await hash.finish(), faults, baseCheck, text };
  const adapter = await assembleAdapter({ config, base: plan.base, plan, parts, ...made });
  faults.check();
  return adapter;
}
