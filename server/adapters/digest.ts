/**
 * An adapter's identity: SHA-256 over what decides its answers. The same weights under other file or folder names,
 * split into other shards, or with other training notes in the config are the same adapter.
 */
import type { AdapterText } from './adapter-text.js';
import type { PeftConfig } from './peft-config.js';
import type { TensorInfo } from './safetensors.js';

/** The config's deciding fields in one order; lists that are sets are sorted, patterns keep theirs (first match wins). */
function canonicalConfig(config: PeftConfig): string {
  const set = (value: readonly string[] | string | null) =>
    typeof value === 'string' || value === null ? value : [...value].sort();
  return JSON.stringify({
    alphaPattern: config.alphaPattern,
    bias: config.bias,
    ensureWeightTying: config.ensureWeightTying,
    excludeModules: set(config.excludeModules),
    invocationTokens: config.invocationTokens,
    layersPattern: config.layersPattern,
    layersToTransform: config.layersToTransform,
    loraAlpha: config.loraAlpha,
    loraBias: config.loraBias,
    modulesToSave: set(config.modulesToSave),
    r: config.r,
    rankPattern: config.rankPattern,
    targetModules: set(config.targetModules),
    trainableTokens: config.trainableTokens,
    useDora: config.useDora,
    useRslora: config.useRslora,
  });
}

/**
 * What is hashed first of an adapter; then come, for each tensor, a line and its bytes.
 * @param text what comes with the adapter beside weights: it decides what its rows read and write
 */
export function digestHeading(config: PeftConfig, text?: AdapterText): string {
  const ofText = text === undefined ? '' : `${JSON.stringify(text)}\n`;
  return `loramux adapter 1\n${canonicalConfig(config)}\n${ofText}`;
}

/** What is hashed between the tensors' bytes. Tensors must come sorted by name. */
export class DigestLines {
  private last: string | undefined;

  /** What stands before a tensor's bytes. Throws if it is out of order. */
  line(tensor: Pick<TensorInfo, 'name' | 'dtype' | 'shape' | 'bytes'>): string {
    if (this.last !== undefined && !(this.last < tensor.name)) throw new Error('tensors are not in order');
    this.last = tensor.name;
    return `${JSON.stringify([tensor.name, tensor.dtype, tensor.shape, tensor.bytes])}\n`;
  }
}
