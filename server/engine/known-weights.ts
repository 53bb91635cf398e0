/**
 * Draws from probabilities that were computed for all tokens of a step together (step-weights.ts). What may be drawn is what
 * {@link filterLogits} leaves of the logits, as far as float32 tells tokens apart.
 */
import { drawFrom, type FilterOptions } from './logits-filter.js';

/** True where every token's weight is needed, so that it pays to have all computed at once. */
export function weighsAll({ topK, topP, minP, typicalP = 1 }: FilterOptions): boolean {
  return topK === 0 && typicalP === 1 && (topP < 1 || minP === 0);
}

/** Probabilities of one bucket of the top-p search agree in all but their last 17 bits; none is above 1. */
const DROPPED_BITS = 17;
const bucketMass = new Float64Array((0x3f800000 >>> DROPPED_BITS) + 1);

/**
 * The token at `draw` in [0, 1) of the cumulated weights of what the options leave, in ascending order of ids.
 * @param logits // [vocab]
 * @param probabilities // [vocab], at the options' temperature
 * @param best id of the largest logit
 * @param options of a row that {@link weighsAll}
 */
export function drawKnown(
  logits: Float32Array,
  probabilities: Float32Array,
  best: number,
  { topP, minP }: FilterOptions,
  draw: number,
): number {
  if (topP >= 1) return drawFromAll(probabilities, draw);
  const ids = nucleus(probabilities, topP, logits);
  const weights = Float64Array.from(ids, (id) => probabilities[id]! / probabilities[best]!);
  let size = 0;
  for (const [index, weight] of weights.entries()) {
    if (weight < minP) continue;
    ids[size] = ids[index]!;
    weights[size++] = weight;
  }
  let total = 0;
  for (let index = 0; index < size; index++) total += weights[index]!;
  return drawFrom({ ids: ids.subarray(0, size), weights: weights.subarray(0, size), total }, draw);
}

function drawFromAll(probabilities: Float32Array, draw: number): number {
  let total = 0;
  for (let id = 0; id < probabilities.length; id++) total += probabilities[id]!;
  let left = draw * total;
  let last = 0;
  for (let id = 0; id < probabilities.length; id++) {
    const probability = probabilities[id]!;
    if (probability === 0) continue;
    last = id;
    left -= probability;
    if (left < 0) break;
  }
  return last;
}

/**
 * Ids, ascending, of the smallest set of most likely tokens whose mass reaches `topP`: a token is in it while the mass of
 * those above it is below that. Positive floats are ordered as their bits are, so that only the tokens near the border have
 * to be sorted; on equal logits lower ids stay.
 */
function nucleus(probabilities: Float32Array, topP: number, logits: Float32Array): Int32Array {
  const bits = new Uint32Array(probabilities.buffer, probabilities.byteOffset, probabilities.length);
  const mass = bucketMass.fill(0);
  for (let id = 0; id < bits.length; id++) mass[bits[id]! >>> DROPPED_BITS]! += probabilities[id]!;
  const wanted = topP * mass.reduce((sum, part) => sum + part, 0);
  let above = 0;
  let border = mass.length - 1;
  while (border > 0 && above + mass[border]! < wanted) above += mass[border--]!;

  const kept: number[] = [];
  const atBorder: number[] = [];
  // The bits of the least float of the border's bucket.
  const least = border << DROPPED_BITS;
  for (let id = 0; id < bits.length; id++) {
    if (bits[id]! < least) continue;
    if (bits[id]! >>> DROPPED_BITS === border) atBorder.push(id);
    else kept.push(id);
  }
  atBorder.sort((a, b) => logits[b]! - logits[a]! || a - b);
  for (const id of atBorder) {
    // `above` is 0 only before the most likely token, which always stays.
    if (above > 0 && above >= wanted) break;
    kept.push(id);
    above += probabilities[id]!;
  }
  return Int32Array.from(kept).sort();
}
