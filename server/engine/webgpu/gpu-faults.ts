/** What the provider's errors mean for the engine. onnxruntime passes Dawn's texts on, so the texts are what there is. */

/** An error of the device, with what follows from it. */
export interface GpuFault {
  /** lost: nothing works until sessions and buffers are made anew. memory: this allocation failed, others may not. */
  readonly kind: 'lost' | 'memory' | 'other';
  /** For whoever sent the request. */
  readonly message: string;
}

/** Tells what happened from the error that a run threw. */
export function gpuFault(error: unknown): GpuFault {
  const text = error instanceof Error ? error.message : String(error);
  // Our own: a setting that the device cannot serve, a number beyond 16 bits.
  if (error instanceof RangeError) return { kind: 'other', message: text };
  const [line] = text.split('\n');
  if (/device (is |was )?lost|DeviceLost|VK_ERROR_DEVICE_LOST|DXGI_ERROR_DEVICE|the device is closed/i.test(text)) {
    return {
      kind: 'lost',
      message: `the graphics device was lost (${line}); the engine starts it anew, send the request again`,
    };
  }
  if (
    /out of memory|allocation size too large|invalid buffer|OUT_OF_(DEVICE|HOST)_MEMORY|narrowing_error/i.test(text)
  ) {
    return { kind: 'memory', message: `the graphics device has no memory left for this (${line})` };
  }
  return { kind: 'other', message: `the graphics device refused a step: ${line}` };
}
