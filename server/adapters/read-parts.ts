/**
 * Reads an adapter's tensors: each is read once, and while its bytes are at hand they are hashed, checked, converted and
 * put where they stay. What is hashed is what is used.
 */
import { type BindingPlan, baseTensorName, type Slot, tensorLabel } from './binding-plan.js';
import type { ContentHash } from './content-hash.js';
import { DigestLines } from './digest.js';
import type { Faults } from './faults.js';
import type { MatrixCopy } from './matrix-copy.js';
import { checkOverflow } from './overflow.js';
import { isResized } from './own-vocabulary.js';
import type { SafetensorsSet } from './safetensors-set.js';
import { Slabs, unwrittenFloats } from './slabs.js';
import type { SlotUse } from './slot-use.js';
import { DTYPE_BITS, type FloatDtype, firstNonFinite, toFloat32 } from './tensor-dtype.js';
import type { TensorPiece } from './tensor-windows.js';
import type { AdapterBase, TargetModule } from './types.js';
import type { Windows } from './windows.js';

/** The tensors of one module, as float32. */
export interface ModuleParts {
  readonly module: TargetModule;
  readonly tensors: Map<SlotUse, Float32Array>;
  /** lora_B, where it is as the engine takes it already: [rank, out], times the scaling. */
  scaledB?: Float32Array | undefined;
}

/** What reading works with. */
export interface PartsInput {
  readonly files: SafetensorsSet;
  readonly plan: BindingPlan;
  readonly hash: ContentHash;
  readonly windows: Windows;
  readonly copy: MatrixCopy;
  readonly base: AdapterBase;
  readonly faults: Faults;
}

/** Relative rounding of a stored type: how far a saved copy of a base weight may be from the base. */
const ROUNDING: Readonly<Record<FloatDtype, number>> = { F64: 2 ** -22, F32: 2 ** -22, F16: 2 ** -10, BF16: 2 ** -7 };

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

/** The parts of an adapter, as far as they have been read. */
class PartsBuilder {
  readonly parts = new Map<string, ModuleParts>();
  private readonly input: PartsInput;
  private readonly slots: ReadonlyMap<string, Slot>;
  private readonly lines: ReadonlyMap<string, string>;
  private readonly slabs: Slabs;
  /** The tensor that is being read, where it comes in several pieces. */
  private values: Float32Array = new Float32Array(0);
  private finite = true;

  constructor(input: PartsInput, { slots, lines }: ReadingOrder) {
    this.input = input;
    this.slots = slots;
    this.lines = lines;
    const inSlabs = Array.from(slots.values()).filter((slot) => this.isPlainPair(slot));
    this.slabs = new Slabs(inSlabs.map(({ tensor }) => elements(tensor.shape)));
  }

  /** What is hashed of a piece, in order. */
  hashed({ name, at, bytes }: TensorPiece): (string | Uint8Array)[] {
    return at === 0 ? [this.lines.get(name)!, bytes] : [bytes];
  }

  /** Takes a piece; with the last one the tensor gets its place. */
  async take({ name, at, bytes }: TensorPiece): Promise<void> {
    const slot = this.slots.get(name)!;
    const { tensor, use } = slot;
    const dtype = tensor.dtype as FloatDtype;
    if (at === 0) {
      const whole = bytes.length === tensor.bytes;
      if (whole && use === 'lora_B' && this.isPlainPair(slot)) return this.placeScaled(slot, bytes);
      const length = elements(tensor.shape);
      this.finite = true;
      this.values = this.isPlainPair(slot) && use === 'lora_A' ? this.slabs.take(length) : unwrittenFloats(length);
    }
    const size = DTYPE_BITS[dtype] / 8;
    const target = this.values.subarray(at / size, (at + bytes.length) / size);
    if (!this.input.copy.widen(bytes, dtype, target)) this.finite = false;
    if (at + bytes.length < tensor.bytes) return;
    if (this.finite) await this.place(slot, this.values);
    else this.tellNotFinite(slot, this.values);
  }

  /** Low-rank matrices of which nothing else is made: those of linears between the tables. */
  private isPlainPair({ use, module }: Slot): boolean {
    const { plan, base } = this.input;
    const { name, kind } = module;
    const isPair = use === 'lora_A' || use === 'lora_B';
    return isPair && kind === 'linear' && name !== base.headModule && !plan.promised.saved.has(name);
  }

  private partsOf({ module }: Slot): ModuleParts {
    const known = this.parts.get(module.name);
    if (known !== undefined) return known;
    const parts: ModuleParts = { module, tensors: new Map() };
    this.parts.set(module.name, parts);
    return parts;
  }

  /** Notes the first number that is not finite. @returns whether there is one */
  private tellNotFinite({ tensor }: Slot, values: Float32Array): boolean {
    const bad = firstNonFinite(values);
    if (bad < 0) return false;
    this.input.faults.add(`${tensorLabel(tensor)}: element ${bad} is ${values[bad]}; weights must be finite`);
    return true;
  }

  /** lora_B [out, rank], straight into the engine's form. */
  private placeScaled(slot: Slot, bytes: Uint8Array): void {
    const { plan, faults, copy } = this.input;
    const { tensor, module } = slot;
    const dtype = tensor.dtype as FloatDtype;
    const { rank, scaling } = plan.promised.lora.get(module.name)!;
    const scaled = this.slabs.take(module.outFeatures * rank);
    const finite = copy.turn(bytes, dtype, scaled, [module.outFeatures, rank], scaling);
    this.partsOf(slot).scaledB = scaled;
    // No scaling makes a number finite that is not: what comes out says enough of what went in.
    if (finite || this.tellNotFinite(slot, toFloat32(bytes, dtype))) return;
    checkOverflow(module.name, scaled, faults);
  }

  private async place(slot: Slot, values: Float32Array): Promise<void> {
    const { plan, base, faults } = this.input;
    const { use, tensor } = slot;
    if (use === 'replaced bias') return;
    if (use === 'base weight' || use === 'base bias') return compareWithBase(slot, values, base, faults);
    const { tensors } = this.partsOf(slot);
    const same = tensors.get(use);
    if (same !== undefined) compareTwice(slot, values, same, plan, faults);
    // Of two, the module's own name counts, as when PEFT loads the file.
    if (same === undefined || !tensor.name.includes('.modules_to_save.')) tensors.set(use, values);
  }
}

/** The tensors in the order in which they are read, and what is hashed before each. */
interface ReadingOrder {
  readonly slots: ReadonlyMap<string, Slot>;
  readonly lines: ReadonlyMap<string, string>;
}

const orders = new WeakMap<BindingPlan, ReadingOrder>();

function readingOrder(plan: BindingPlan): ReadingOrder {
  let order = orders.get(plan);
  if (order === undefined) {
    const slots = [...plan.slots].sort((x, y) => (x.tensor.name < y.tensor.name ? -1 : 1));
    const digest = new DigestLines();
    order = {
      slots: new Map(slots.map((slot) => [slot.tensor.name, slot])),
      lines: new Map(slots.map(({ tensor }) => [tensor.name, digest.line(tensor)])),
    };
    orders.set(plan, order);
  }
  return order;
}

function elements(shape: readonly number[]): number {
  return shape.reduce((product, dim) => product * dim, 1);
}

/** Reads, hashes and converts every tensor, in the order of names; what is wrong with numbers is noted in the faults. */
export async function readParts(input: PartsInput): Promise<Map<string, ModuleParts>> {
  const { files, plan, hash, windows } = input;
  const order = readingOrder(plan);
  const builder = new PartsBuilder(input, order);
  const hashing: Promise<void>[] = [];
  try {
    for await (const { pieces, release } of files.pass([...order.slots.keys()], windows)) {
      // Its memory is free for others when it is hashed and converted, whichever of the two takes longer.
      const hashed = hash.update(pieces.flatMap((piece) => builder.hashed(piece)));
      let converted: () => void = () => {};
      const done = new Promise<void>((resolve) => {
        converted = resolve;
      });
      hashing.push(Promise.allSettled([hashed, done]).then(release));
      hashing.push(hashed);
      hashed.catch(() => {});
      try {
        for (const piece of pieces) await builder.take(piece);
      } finally {
        converted();
      }
    }
    await Promise.all(hashing);
  } finally {
    await Promise.allSettled(hashing);
  }
  return builder.parts;
}
