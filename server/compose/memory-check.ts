/** Whether the memory that a server may have holds what its settings allow it to keep. */
import type { ServeConfig } from '../config/serve-config.js';

/** The settings that matter here. */
export type Budgets = Pick<ServeConfig, 'adapterBytes' | 'kvBytes' | 'prefixCacheBytes' | 'device'>;

/**
 * What to tell the operator; undefined where it fits. Weights and everything else come on top, so it is told only where the
 * budgets alone are too much.
 * @param models how many are served
 * @param bytes what the process may have
 */
export function memoryRemark(budgets: Budgets, models: number, bytes: number): string | undefined {
  const { adapterBytes, kvBytes, prefixCacheBytes, device } = budgets;
  // A GPU has its own memory for the others.
  const allowed = adapterBytes + (device !== 'webgpu' ? models * (kvBytes + prefixCacheBytes) : 0);
  if (allowed < bytes) return undefined;
  const size = (of: number): string => `${(of / 2 ** 30).toFixed(1)} GiB`;
  return (
    `--kv-bytes and --prefix-cache-bytes of each model and --adapter-bytes allow ${size(allowed)} together, beside the weights, ` +
    `but this process may have ${size(bytes)}: under load the system would end it, so set them lower`
  );
}
