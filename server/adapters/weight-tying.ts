/**
 * `ensure_weight_tying` of a tied model, as PEFT applies it: an adapter that names one end of the table, the embedding or
 * the head, adapts both alike. PEFT writes both ends to the file; they must say the same.
 */

import type { Faults } from './faults.js';
import type { PeftConfig } from './peft-config.js';
import type { ModuleParts } from './read-parts.js';
import type { AdapterBase } from './types.js';

/** Last name parts by which PEFT knows either end (`EMBEDDING_LAYER_NAMES`); others are not tied. */
const NAMES = ['embed_tokens', 'lm_head'];

/**
 * How both ends are adapted: replaced as a whole, or by low-rank matrices; undefined where the config asks for no tying or
 * names neither end. Replacing goes first.
 * @param isTarget whether target_modules names a module
 */
export function tiedAdaptation(
  config: PeftConfig,
  base: AdapterBase,
  isTarget: (name: string) => boolean,
): 'saved' | 'lora' | undefined {
  if (!config.ensureWeightTying || !base.tiedHead) return undefined;
  const named = (list: readonly string[]) => list.some((one) => NAMES.includes(one.slice(one.lastIndexOf('.') + 1)));
  if (named(config.modulesToSave)) return 'saved';
  const { targetModules } = config;
  const targeted = Array.isArray(targetModules) ? named(targetModules) : targetModules !== null && NAMES.some(isTarget);
  return targeted ? 'lora' : undefined;
}

/** Notes where the ends differ: PEFT holds one set of numbers for both, so one of the two would not be what was trained. */
export function checkTied(
  config: PeftConfig,
  base: AdapterBase,
  parts: ReadonlyMap<string, ModuleParts>,
  faults: Faults,
): void {
  if (!config.ensureWeightTying || !base.tiedHead) return;
  const rows = parts.get(base.embeddingModule)?.tensors;
  const outputs = parts.get(base.headModule)?.tensors;
  const { inFeatures: vocab, outFeatures: hidden } = base.modules.get(base.embeddingModule)!;
  const differ = (what: string) =>
    faults.add(`ensure_weight_tying is set, but the ${what} of ${base.embeddingModule} and ${base.headModule} differ`);
  const [table, matrix] = [rows?.get('weight'), outputs?.get('weight')];
  if (table !== undefined && matrix?.some((value, i) => value !== table[i])) differ('weights');
  const [a, b] = [rows?.get('lora_embedding_A'), rows?.get('lora_embedding_B')]; // [rank, vocab], [hidden, rank]
  const [headA, headB] = [outputs?.get('lora_A'), outputs?.get('lora_B')]; // [rank, hidden], [vocab, rank]
  if (a === undefined || b === undefined || headA === undefined || headB === undefined) return;
  if (!areTransposed(a, headB, vocab) || !areTransposed(b, headA, b.length / hidden)) differ('low-rank matrices');
}

/** @param first [rows, columns] @param second [columns, rows] */
function areTransposed(first: Float32Array, second: Float32Array, columns: number): boolean {
  const rows = first.length / columns;
  if (second.length !== first.length) return false;
  return first.every((value, at) => value === second[(at % columns) * rows + Math.floor(at / columns)]);
}
