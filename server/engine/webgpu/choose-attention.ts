/** What attention is made of on a device, and where keys and values lie: what was asked for, and what the device can do. */
import type { DecoderSpec } from '../../model/spec.js';
import type { AttentionForm } from '../../model/webgpu/gpu-attention.js';
import type { GpuPrecision } from '../../model/webgpu/gpu-precision.js';
import { hasPagedAttention } from '../../model/webgpu/paged-attention.js';
import { checkAttention } from './attention-check.js';
import type { GpuDevice } from './gpu-device.js';
import { firstLine } from './gpu-faults.js';
import { checkPaged } from './paged-check.js';

/** Values of the setting `--device-kv`. */
export type KvSetting = 'plain' | 'paged';

/** A decision. */
export interface AttentionChoice {
  readonly form: AttentionForm;
  /** Most new tokens of a row in one run. */
  readonly maxTokens: number;
  /** For the log. */
  readonly how: string;
}

/** Decides; what is wrong with pages is told, and the plain path taken. */
export async function chooseAttention(
  device: GpuDevice,
  spec: DecoderSpec,
  precision: GpuPrecision,
  kv: KvSetting = 'plain',
): Promise<AttentionChoice> {
  if (kv === 'plain') return plain(device, spec, precision, '');
  const found = await pages(device, spec, precision);
  return typeof found === 'string' ? plain(device, spec, precision, `, not in pages: ${found}`) : found;
}

async function plain(
  device: GpuDevice,
  spec: DecoderSpec,
  precision: GpuPrecision,
  whyNot: string,
): Promise<AttentionChoice> {
  const most = await checkAttention(device, spec, precision);
  const how = (attention: string) => `attention by ${attention}, keys and values row by row${whyNot}`;
  if (most > 0) return { form: 'kernel', maxTokens: most, how: how(`its kernels, ${atOnce(most)}`) };
  return { form: 'primitive', maxTokens: Number.POSITIVE_INFINITY, how: how('primitive operators') };
}

/** The choice of pages, or why they are none. */
async function pages(device: GpuDevice, spec: DecoderSpec, precision: GpuPrecision): Promise<AttentionChoice | string> {
  if (!precision.half) return 'they want 16-bit floats';
  if (!hasPagedAttention(spec)) return 'the kernel knows no soft caps, and heads of multiples of 8 values only';
  const windows = spec.layers.map(({ attention }) => attention.window !== undefined);
  try {
    const maxTokens = await checkPaged(device, spec, { some: windows.includes(true), all: !windows.includes(false) });
    if (maxTokens === 0) return 'the device computes the kernel wrongly';
    return { form: 'paged', maxTokens, how: `attention by its kernel over pages, ${atOnce(maxTokens)}` };
  } catch (error) {
    return `the device has no such kernel (${firstLine((error as Error).message)})`;
  }
}

const atOnce = (tokens: number): string =>
  tokens === Number.POSITIVE_INFINITY ? 'any number of tokens at once' : `up to ${tokens} tokens at once`;
