/**
 * Draws from probabilities that were computed for all tokens of a step together (step-weights.ts). What may be drawn is what
 * {@link filterLogits} leaves of the logits, as far as float32 tells tokens apart.
 */
import { drawFrom, type FilterOptions, narrow } from './logits-filter.js';
import { borderOf, staying } from './nucleus-border.js';

/** True where every token's weight is needed, so that it pays to have all computed at once. */
export function weighsAll({ topK, topP, minP, typicalP = 1 }: FilterOptions): boolean {
  return topK === 0 && typicalP === 1 && (topP < 1 || minP === 0);
}

/** Probabilities of one bucket of the top-p search agree in all but their last 17 bits; none is above 1. */
const DROPPED_BITS = 17;
const LAST_BUCKET = 0x3f800000 >>> DROPPED_BITS;
/** The most likely ones come first. */
const bucketMass = new Float64Array(LAST_BUCKET + 1);

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
  { topP, minP, typicalP = 1 }: FilterOptions,
  draw: number,
): number {
  if (topP >= 1) return drawFromAll(probabilities, draw);
  const ids = nucleus(probabilities, topP, logits);
  const weights = Float64Array.from(ids, (id) => probabilities[id]! / probabilities[best]!);
  return drawFrom(narrow(ids, weights, ids.length, minP, typicalP), draw);
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
  for (let id = 0; id < bits.length; id++) mass[LAST_BUCKET - (bits[id]! >>> DROPPED_BITS)]! += probabilities[id]!;
  // The smallest first, which loses least.
  const wanted = topP * mass.reduceRight((sum, part) => sum + part, 0);
  const { border, above } = borderOf(mass, wanted);

  const kept: number[] = [];
  const atBorder: number[] = [];
  // The bits of the least floats of the border's bucket and of the one above it.
  const least = (LAST_BUCKET - border) << DROPPED_BITS;
  const next = least + (1 << DROPPED_BITS);
  for (let id = 0; id < bits.length; id++) {
    if (bits[id]! < least) continue;
    if (bits[id]! < next) atBorder.push(id);
    else kept.push(id);
  }
  atBorder.sort((a, b) => logits[b]! - logits[a]! || a - b);
  return Int32Array.from([...kept, ...atBorder.slice(0, staying(atBorder, probabilities, above, wanted))]).sort();
}
