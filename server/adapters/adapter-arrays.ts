/** An adapter as the arrays it is made of: what they take, and what crosses to another thread with them. */
import type { BoundAdapter } from './types.js';

/** Calls `visit` with every array of an adapter. */
export function forEachArray(adapter: Omit<BoundAdapter, 'bytes'>, visit: (values: Float32Array) => void): void {
  for (const linear of adapter.linears) {
    for (const values of [linear.a, linear.b, linear.gain, linear.biasDelta, linear.replaced]) {
      if (values !== undefined) visit(values);
    }
  }
  const { embedding } = adapter;
  for (const values of [embedding?.lora?.a, embedding?.lora?.b, embedding?.lora?.gain, embedding?.replaced]) {
    if (values !== undefined) visit(values);
  }
  for (const map of [embedding?.rows, adapter.norms, adapter.normBiases, adapter.headRows]) {
    for (const values of map?.values() ?? []) visit(values);
  }
  for (const own of [adapter.vocabulary, adapter.vocabulary?.before]) {
    for (const values of [own?.rows, own?.bias]) if (values !== undefined) visit(values);
  }
}

/** Every buffer of an adapter's arrays, once: what a message hands over rather than copies. */
export function buffersOf(adapter: BoundAdapter): ArrayBuffer[] {
  const buffers = new Set<ArrayBuffer>();
  forEachArray(adapter, ({ buffer }) => {
    if (buffer instanceof ArrayBuffer) buffers.add(buffer);
  });
  return [...buffers];
}
