/** Opens a model on the device that was chosen for it. */
import type { ModelFolder } from '../model/model-folder.js';
import type { StepBackend } from './backend.js';
import { EmbeddingTable } from './embedding-table.js';
import { type BackendOptions, openBackend } from './open-backend.js';
import type { DeviceChoice } from './webgpu/choose-device.js';
import { gpuFault } from './webgpu/gpu-faults.js';
import { GpuRunner } from './webgpu/gpu-runner.js';
import { supportsHalf } from './webgpu/half-support.js';

/** How a model is run, and where. */
export interface DeviceOptions extends BackendOptions {
  /** Absent = the processor. */
  readonly device?: DeviceChoice | undefined;
  /** Most bytes of adapters in a device's own memory, those in use not counted; absent = no bound. */
  readonly deviceAdapterBytes?: number | undefined;
}

/** A backend, and what it runs on. */
export interface OpenedBackend {
  readonly backend: StepBackend;
  readonly device: DeviceChoice['device'];
  /** Why it is that device, and how it computes. */
  readonly why: string;
}

/**
 * Opens the device that was chosen, or the processor where the choice allows it. Throws what the device says otherwise.
 */
export async function openOnDevice(folder: ModelFolder, options: DeviceOptions): Promise<OpenedBackend> {
  const { device: choice } = options;
  const why = choice?.why ?? 'asked for';
  if (choice?.device !== 'webgpu') return { backend: await openBackend(folder, options), device: 'cpu', why };
  try {
    const { backend, how } = await openGpu(folder, options);
    return { backend, device: 'webgpu', why: `${why}; ${how}` };
  } catch (error) {
    if (!choice.fallback) throw error;
    const failure = `${why}, but the device could not be opened: ${(error as Error).message}`;
    return { backend: await openBackend(folder, options), device: 'cpu', why: failure };
  }
}

/** Puts the model on the WebGPU provider's device. */
async function openGpu(folder: ModelFolder, options: DeviceOptions): Promise<{ backend: GpuRunner; how: string }> {
  const { dtype, deviceAdapterBytes = Number.POSITIVE_INFINITY } = options;
  try {
    const half = dtype !== 'fp32' && (await supportsHalf());
    const precision = { half, bits: dtype === 'int8' ? 8 : undefined } as const;
    const table = await EmbeddingTable.read(folder);
    const backend = await GpuRunner.open(folder, table, { precision, adapterBytes: deviceAdapterBytes });
    const { usable, maxTokens } = backend.model.kernels;
    const attention = usable ? `its kernels, up to ${maxTokens} tokens at once` : 'primitive operators';
    const floats = half ? 'fp16' : 'fp32';
    return {
      backend,
      how: `activations in ${floats}, weights in ${precision.bits ?? floats}, attention by ${attention}`,
    };
  } catch (error) {
    throw new Error(`WebGPU: ${gpuFault(error).message}`, { cause: error });
  }
}
