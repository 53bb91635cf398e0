/** Makes adapters for the golden llama in a temporary folder: config and tensors as a test wants them. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { encodeFile } from './raw-safetensors.js';

export interface AdapterFiles {
  readonly config?: Readonly<Record<string, unknown>>;
  readonly tensors?: Readonly<Record<string, { shape: readonly number[]; values: readonly number[] }>>;
}

/** A tensor of numbers that differ from each other. */
export function numbers(shape: readonly number[], seed = 1): { shape: readonly number[]; values: number[] } {
  const size = shape.reduce((n, dim) => n * dim, 1);
  return { shape, values: Array.from({ length: size }, (_, i) => Math.sin((i + 1) * 0.37 * seed) / 4) };
}

/** lora_A and lora_B of one module of the golden llama. */
export function pair(
  module: string,
  rank: number,
  inFeatures: number,
  outFeatures: number,
  seed = 1,
): Record<string, { shape: readonly number[]; values: number[] }> {
  return {
    [`base_model.model.${module}.lora_A.weight`]: numbers([rank, inFeatures], seed),
    [`base_model.model.${module}.lora_B.weight`]: numbers([outFeatures, rank], seed + 1),
  };
}

/** Default: rank 2 on q_proj of both layers. */
export function writeAdapter(folder: string, files: AdapterFiles = {}, seed = 1): string {
  const tensors = files.tensors ?? {
    ...pair('model.layers.0.self_attn.q_proj', 2, 48, 48, seed),
    ...pair('model.layers.1.self_attn.q_proj', 2, 48, 48, seed + 2),
  };
  mkdirSync(folder, { recursive: true });
  const config = { peft_type: 'LORA', r: 2, lora_alpha: 4, target_modules: ['q_proj'], ...files.config };
  writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify(config));
  writeFileSync(join(folder, 'adapter_model.safetensors'), encodeFile(Object.entries(tensors)));
  return folder;
}
