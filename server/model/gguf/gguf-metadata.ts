/** The metadata of a GGUF file that describe its architecture, and which of them were read. */
import type { GgufArchitecture } from '../../adapters/gguf/architectures.js';
import type { GgufFile } from '../../adapters/gguf/gguf-file.js';
import type { GgufValue } from '../../adapters/gguf/gguf-header.js';
import type { AppError } from '../../errors.js';

/** Keys `<architecture>.` that say nothing about the forward pass. */
const HARMLESS = ['vocab_size', 'tensor_data_layout'];

/** Reads keys by what follows `<architecture>.`. */
export class GgufMetadata {
  readonly #own = new Map<string, GgufValue>();
  readonly #left: Set<string>;

  constructor(
    readonly file: GgufFile,
    readonly architecture: GgufArchitecture,
  ) {
    const prefix = `${architecture.name}.`;
    for (const [key, value] of file.metadata)
      if (key.startsWith(prefix)) this.#own.set(key.slice(prefix.length), value);
    this.#left = new Set(this.#own.keys());
    for (const key of HARMLESS) this.#left.delete(key);
  }

  /** A value, whatever it is. */
  raw(key: string): GgufValue | undefined {
    this.#left.delete(key);
    return this.#own.get(key);
  }

  /** A finite number; undefined where it is missing. */
  number(key: string): number | undefined {
    const value = this.raw(key);
    if (value === undefined) return undefined;
    if (typeof value !== 'number' || !Number.isFinite(value)) throw this.fault(key, 'a number', value);
    return value;
  }

  /** A number that the file must have: without it, llama.cpp and transformers would go on differently. */
  needed(key: string): number {
    const value = this.number(key);
    if (value === undefined) throw this.fault(key, 'a number', value);
    return value;
  }

  /** A number above 0 that the file must have. */
  positive(key: string): number {
    const value = this.needed(key);
    if (value <= 0) throw this.fault(key, 'a number above 0', value);
    return value;
  }

  /** A whole number; undefined where it is missing or 0, which is how llama.cpp writes that there is none. */
  count(key: string): number | undefined {
    const value = this.number(key) ?? 0;
    if (!Number.isInteger(value) || value < 0) throw this.fault(key, 'a whole number', value);
    return value === 0 ? undefined : value;
  }

  /** True or false for each layer; undefined where the key is missing. One number n: all but every n-th. */
  pattern(key: string, layers: number): boolean[] | undefined {
    const value = this.raw(key);
    if (value === undefined) return undefined;
    if (typeof value === 'number' && Number.isInteger(value) && value > 0)
      return Array.from({ length: layers }, (_, layer) => (layer + 1) % value !== 0);
    if (!ArrayBuffer.isView(value) || value.length !== layers)
      throw this.fault(
        key,
        `true or false for each of ${layers} layers`,
        ArrayBuffer.isView(value) ? [...value] : value,
      );
    return Array.from(value, (one) => one !== 0);
  }

  /** Insists on a value that the architecture's code takes for granted. */
  expect(key: string, only: GgufValue): void {
    const value = this.raw(key);
    if (value !== undefined && value !== only) throw this.fault(key, JSON.stringify(only), value);
  }

  /** Whether the file has a tensor. */
  has(tensor: string): boolean {
    return this.file.tensors.has(tensor);
  }

  /** What nobody read. Zero, and false, are how llama.cpp writes that something is not there (experts, a window). */
  left(): [key: string, value: GgufValue][] {
    const all = Array.from(this.#left, (key): [string, GgufValue] => [
      `${this.architecture.name}.${key}`,
      this.#own.get(key)!,
    ]);
    return all.filter(([, value]) => value !== 0);
  }

  /** The error for a key with a value that cannot be used. */
  fault(key: string, wanted: string, value: unknown): AppError {
    const shown = value === undefined ? 'is missing' : `is ${JSON.stringify(value)}`;
    return this.file.fail(`${this.architecture.name}.${key} ${shown}; ${wanted} would be right`);
  }
}
