/**
 * An adapter's identity: SHA-256 over what decides its answers. The same weights under other file or folder names,
 * split into other shards, or with other training notes in the config are the same adapter.
 */
import { createHash } from 'node:crypto';
import type { AdapterText } from './adapter-text.js';
import type { PeftConfig } from './peft-config.js';
import type { TensorInfo } from './safetensors.js';

/** Most bytes given to the hash at once (its limit is 2 GiB). */
const UPDATE_BYTES = 64 * 1024 * 1024;

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

/** Hash that takes an adapter's tensors, which must come sorted by name. */
export class AdapterDigest {
  private readonly hash = createHash('sha256');
  private last: string | undefined;

  /** @param text what comes with the adapter beside weights: it decides what its rows read and write */
  constructor(config: PeftConfig, text?: AdapterText) {
    this.hash.update(`loramux adapter 1\n${canonicalConfig(config)}\n`);
    if (text !== undefined) this.hash.update(`${JSON.stringify(text)}\n`);
  }

  /** Adds one tensor. Throws if it is out of order. */
  add(tensor: Pick<TensorInfo, 'name' | 'dtype' | 'shape' | 'bytes'>, raw: Uint8Array): void {
    if (this.last !== undefined && !(this.last < tensor.name)) throw new Error('tensors are not in order');
    this.last = tensor.name;
    this.hash.update(`${JSON.stringify([tensor.name, tensor.dtype, tensor.shape, tensor.bytes])}\n`);
    for (let at = 0; at < raw.length; at += UPDATE_BYTES) this.hash.update(raw.subarray(at, at + UPDATE_BYTES));
  }

  /** The digest, lower-case hex. */
  finish(): string {
    return this.hash.digest('hex');
  }
}
