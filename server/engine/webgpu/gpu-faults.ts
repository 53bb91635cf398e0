/** What the provider's errors mean for the engine. onnxruntime passes Dawn's texts on, so the texts are what there is. */

import { AppError } from '../../errors.js';

/** An error of the device, with what follows from it. */
export interface GpuFault {
  /**
   * own: the device has nothing to do with it. lost: nothing works until sessions and buffers are made anew. memory: there
   * was none left, or not in one piece. refused: the provider or the device did not accept what was asked of it.
   */
  readonly kind: 'own' | 'lost' | 'memory' | 'refused';
  /** For whoever sent the request. */
  readonly message: string;
}

/** Tells what happened from the error that a run threw. */
export function gpuFault(error: unknown): GpuFault {
  const text = error instanceof Error ? error.message : String(error);
  // A setting that the device cannot serve, a number beyond 16 bits, a budget.
  if (error instanceof RangeError || error instanceof AppError) return { kind: 'own', message: text };
  const line = firstLine(text);
  if (/Failed to get a WebGPU/.test(text)) {
    return {
      kind: 'refused',
      message: `no graphics device can be opened (${line}); docs/gpu.md tells what one needs, and --device cpu needs none`,
    };
  }
  if (/device (is |was )?lost|DeviceLost|VK_ERROR_DEVICE_LOST|DXGI_ERROR_DEVICE|the device is closed/i.test(text)) {
    return { kind: 'lost', message: `the graphics device was lost (${line})` };
  }
  if (
    /out of memory|allocation size too large|exceeds the max buffer size|invalid buffer|OUT_OF_(DEVICE|HOST)_MEMORY|narrowing_error/i.test(
      text,
    )
  ) {
    return { kind: 'memory', message: `the graphics device has no memory left for this (${line})` };
  }
  return { kind: 'refused', message: `the graphics device refused this: ${line}` };
}

/** What a row or a load gets that the device failed. By then the model is on it anew. */
export function deviceFailed(message: string, cause?: unknown): AppError {
  return new AppError('DEVICE_FAILED', `${message}; the device was opened anew, send the request again`, { cause });
}

/** What a message of the provider says, without the place in its sources and without its list of calls. */
export function firstLine(message: string): string {
  return message.split('\n')[0]!.replace(/^\S+:\d+ .* was false\. /, '');
}
