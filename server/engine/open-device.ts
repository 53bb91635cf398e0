/** Opens a model on the device that was chosen for it. */
import type { ModelFolder } from '../model/model-folder.js';
import type { OpenedBackend } from './backend.js';
import { EmbeddingTable } from './embedding-table.js';
import { FallbackBackend } from './fallback-backend.js';
import type { Dtype } from './linear-weights.js';
import { type BackendOptions, openBackend } from './open-backend.js';
import type { KvSetting } from './webgpu/choose-attention.js';
import type { DeviceChoice } from './webgpu/choose-device.js';
import { chooseFloats, type FloatSetting } from './webgpu/choose-floats.js';
import { gpuFault } from './webgpu/gpu-faults.js';
import { GpuRunner } from './webgpu/gpu-runner.js';
import { supportsHalf } from './webgpu/half-support.js';

/** Arithmetic of the base model's linears on any device: `int4` is for GPUs. */
export type DeviceDtype = Dtype | 'int4';

/** How a model is run, and where. */
export interface DeviceOptions extends Omit<BackendOptions, 'dtype'> {
  readonly dtype: DeviceDtype;
  /** Absent = the processor. */
  readonly device?: DeviceChoice | undefined;
  /** Most bytes of adapters in a device's own memory, those in use not counted; absent = no bound. */
  readonly deviceAdapterBytes?: number | undefined;
  /** Floats on a device; absent = auto. */
  readonly deviceFloats?: FloatSetting | undefined;
  /** Where keys and values lie on a device; absent = plain. */
  readonly deviceKv?: KvSetting | undefined;
}

/**
 * Opens the device that was chosen, or the processor where the choice allows it. Throws what the device says otherwise.
 * Where it allows it, the backend also goes on on the processor when the device fails for good later.
 */
export async function openOnDevice(folder: ModelFolder, options: DeviceOptions): Promise<OpenedBackend> {
  const { device: choice } = options;
  const why = choice?.why ?? 'asked for';
  if (choice?.device !== 'webgpu') return openHost(folder, options, why);
  try {
    const { backend, how } = await openGpu(folder, options);
    const place = { device: 'webgpu', why: `${why}; ${how}` } as const;
    if (!choice.fallback) return { backend, ...place };
    const open = (failure: string) => takeOver(folder, options, `${why}, but the device failed: ${failure}`);
    return { backend: new FallbackBackend(backend, place, { open, marks: options.marks }), ...place };
  } catch (error) {
    if (!choice.fallback) throw error;
    const failure = `${why}, but the device could not be opened: ${(error as Error).message}`;
    return openHost(folder, options, failure);
  }
}

async function openHost(folder: ModelFolder, options: DeviceOptions, why: string): Promise<OpenedBackend> {
  const { dtype } = options;
  if (dtype === 'int4')
    throw new Error(`dtype int4 is for WebGPU, and this is the processor (${why}); int8 would be right`);
  return { backend: await openBackend(folder, { ...options, dtype }), device: 'cpu', why };
}

/** Opens the processor in a device's place. */
async function takeOver(folder: ModelFolder, options: DeviceOptions, why: string): Promise<OpenedBackend> {
  if (options.dtype === 'int4') throw new Error('dtype int4 is for GPUs, the processor has none; int8 would be right');
  return openHost(folder, options, why);
}

/** Bits of a weight. */
const BITS = { fp32: undefined, int8: 8, int4: 4 } as const;

/** Puts the model on the WebGPU provider's device. */
async function openGpu(folder: ModelFolder, options: DeviceOptions): Promise<{ backend: GpuRunner; how: string }> {
  const { dtype, deviceAdapterBytes = Number.POSITIVE_INFINITY, deviceFloats = 'auto', deviceKv, marks } = options;
  try {
    const floats = chooseFloats(deviceFloats, dtype, await supportsHalf());
    const precision = { half: floats.floats === 'fp16', bits: BITS[dtype] };
    const table = await EmbeddingTable.read(folder);
    const backend = await GpuRunner.open(folder, table, {
      precision,
      adapterBytes: deviceAdapterBytes,
      kv: deviceKv,
      marks,
    });
    const weights = dtype === 'fp32' ? floats.floats : `${dtype} blocks`;
    return {
      backend,
      how: `activations in ${floats.floats} (${floats.why}), weights in ${weights}, ${backend.model.attention.how}`,
    };
  } catch (error) {
    throw new Error(`WebGPU: ${gpuFault(error).message}`, { cause: error });
  }
}
