/**
 * Checks an adapter as a registration would, without loading it: where every tensor goes, what would be refused and why,
 * and how much memory it would take. Faults of the adapter are part of the report, never thrown.
 */
import { AppError, type ErrorReason } from '../errors.js';
import { noteForeign } from './base-identity.js';
import type { ReadingTools } from './bind.js';
import { planBinding } from './binding-plan.js';
import { Faults } from './faults.js';
import { type AdapterSummary, prepareAdapter, type ReadRequest } from './prepare-adapter.js';
import { openAdapter } from './read-adapter.js';
import type { AdapterBase } from './types.js';

/** One tensor of the files and what would become of it. */
export interface TensorReport {
  readonly file: string;
  readonly name: string;
  /** As stored, for example F32. */
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: number;
  /** Module of the base that it is bound to; '' when it is bound to none. */
  readonly module: string;
  /** What it is there, for example lora_A; '' when it is bound to none. */
  readonly use: string;
  /** Of the module, for low-rank tensors. */
  readonly rank?: number | undefined;
  readonly scaling?: number | undefined;
}

/** What a registration would say. */
export interface AdapterReport {
  /** True: a registration would succeed as far as the files go. */
  readonly valid: boolean;
  /** Why not; absent when valid. */
  readonly reason?: ErrorReason | undefined;
  /** Every fault, one text each; empty when valid. */
  readonly faults: readonly string[];
  readonly tensors: readonly TensorReport[];
  /** What the adapter is; absent when it is not valid. */
  readonly summary?: AdapterSummary | undefined;
}

/** Reads and checks the adapter in a folder. Throws only for faults that are not the adapter's. */
export async function validateAdapter(
  request: ReadRequest,
  base: AdapterBase,
  tools?: ReadingTools,
): Promise<AdapterReport> {
  let tensors: TensorReport[] = [];
  const faults = new Faults();
  try {
    tensors = await describeTensors(request, base, faults);
    const { summary } = await prepareAdapter(request, base, tools);
    return { valid: true, faults: [], tensors, summary };
  } catch (thrown) {
    const { reason, message } = AppError.from(thrown);
    if (reason === 'INTERNAL') throw thrown;
    return { valid: false, reason, faults: faults.count > 0 ? faults.all : [message], tensors };
  }
}

/** Where the tensors go, by names and shapes alone; what is wrong with them is noted in `faults`. */
async function describeTensors(request: ReadRequest, base: AdapterBase, faults: Faults): Promise<TensorReport[]> {
  const { files, config } = await openAdapter(request.folder, base, request.roots);
  try {
    noteForeign(config.baseModel, base, request.baseCheck ?? 'warn', faults);
    const plan = planBinding(files.tensors, config, base, faults);
    const slots = new Map(plan.slots.map((slot) => [slot.tensor.name, slot]));
    return [...files.tensors.values()].map(({ label, name, dtype, shape, bytes }) => {
      const slot = slots.get(name);
      const lora =
        slot === undefined || !slot.use.startsWith('lora_') ? undefined : plan.promised.lora.get(slot.module.name);
      return { file: label, name, dtype, shape, bytes, module: slot?.module.name ?? '', use: slot?.use ?? '', ...lora };
    });
  } finally {
    await files.close();
  }
}
