/**
 * Temperature, top-k, top-p, min-p and typical-p: from logits to the tokens that may be drawn and their weights. The order and the
 * borders are those of Hugging Face's logits warpers; the work is linear in the vocabulary.
 */
import { expOfMinus } from './logits-exp.js';
import { argmax, largest } from './logits-select.js';
import { keepTypical } from './logits-typical.js';

/** How to narrow the distribution. */
export interface FilterOptions {
  /** > 0. */
  readonly temperature: number;
  /** 0 = off. */
  readonly topK: number;
  /** 1 = off. */
  readonly topP: number;
  /** 0 = off. */
  readonly minP: number;
  /** 1 = off. */
  readonly typicalP?: number | undefined;
}

/**
 * What may be drawn: ids ascending, and the weight of each relative to the most likely token, whose weight is 1. The
 * arrays are the module's own and valid until the next call of {@link filterLogits}.
 */
export interface Candidates {
  readonly ids: Int32Array;
  readonly weights: Float64Array;
  /** Sum of the weights: probability = weight / total. */
  readonly total: number;
}

/** Weights of one bucket of the top-p search agree, as float32, in all but their last 17 bits; no weight is above 1. */
const DROPPED_BITS = 17;
const BUCKET_COUNT = (0x3f800000 >>> DROPPED_BITS) + 1;

/** Working memory, as large as the largest vocabulary seen: a megabyte a token would else go to the collector. */
let scratchIds = new Int32Array(0);
let scratchWeights = new Float64Array(0);
let scratchBuckets = new Uint16Array(0);
const bucketMass = new Float64Array(BUCKET_COUNT);
const float = new Float32Array(1);
const floatBits = new Uint32Array(float.buffer);

/** True where every token's weight is needed, so that it pays to have them all computed at once. */
export function weighsAll({ topK, topP, minP }: FilterOptions): boolean {
  return topK === 0 && (topP < 1 || minP === 0);
}

/**
 * Applies temperature, top-k (ties at the cut stay), top-p, min-p and typical-p, in this order.
 * @param probabilities of all tokens at this temperature, where they are known
 */
export function filterLogits(logits: Float32Array, options: FilterOptions, probabilities?: Float32Array): Candidates {
  const bestId = argmax(logits);
  const best = logits[bestId]!;
  const { temperature, topK, topP, minP, typicalP = 1 } = options;
  let bound = Number.NEGATIVE_INFINITY;
  if (topK > 0 && topK < logits.length) bound = logits[largest(logits, topK).at(-1)!]!;
  // Without top-p nobody needs the weights of what min-p drops. The exact cut, on weights, is below.
  if (minP > 0 && topP >= 1) bound = Math.max(bound, best + Math.log(minP) * temperature - 1e-3 * temperature);

  if (scratchIds.length < logits.length) {
    scratchIds = new Int32Array(logits.length);
    scratchWeights = new Float64Array(logits.length);
    scratchBuckets = new Uint16Array(logits.length);
  }
  const ids = scratchIds;
  const weights = scratchWeights;
  let size =
    probabilities !== undefined && bound === Number.NEGATIVE_INFINITY
      ? relate(probabilities, bestId, ids, weights)
      : weigh(logits, best, temperature, bound, ids, weights);
  if (topP < 1) size = keepNucleus(ids, weights, size, topP, logits);
  if (minP > 0) {
    let kept = 0;
    for (let index = 0; index < size; index++) {
      if (weights[index]! < minP) continue;
      ids[kept] = ids[index]!;
      weights[kept++] = weights[index]!;
    }
    size = kept;
  }
  if (typicalP < 1) size = keepTypical(ids, weights, size, typicalP);
  let total = 0;
  for (let index = 0; index < size; index++) total += weights[index]!;
  return { ids: ids.subarray(0, size), weights: weights.subarray(0, size), total };
}

/** Collects the ids with logits of at least `bound` and their weights; returns how many. */
function weigh(
  logits: Float32Array,
  best: number,
  temperature: number,
  bound: number,
  ids: Int32Array,
  weights: Float64Array,
): number {
  let size = 0;
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id]!;
    if (!(logit >= bound)) continue;
    ids[size] = id;
    // 0 / temperature stays 0: the best weighs 1 at any temperature.
    weights[size] = expOfMinus((best - logit) / temperature);
    size++;
  }
  return size;
}

/** Collects all ids that may be drawn, with their weights relative to the best; returns how many. */
function relate(probabilities: Float32Array, best: number, ids: Int32Array, weights: Float64Array): number {
  const unit = 1 / probabilities[best]!;
  let size = 0;
  for (let id = 0; id < probabilities.length; id++) {
    const probability = probabilities[id]!;
    if (!(probability > 0)) continue;
    ids[size] = id;
    // Rounding must not put another token of the best one's weight above it.
    weights[size++] = Math.min(1, probability * unit);
  }
  return size;
}

/**
 * Keeps the smallest set of most likely tokens whose mass reaches `topP` and moves it to the front: a token stays while
 * the mass of those above it is below `topP`. Only the bucket in which the mass is reached is sorted; on equal logits
 * lower ids stay. Returns the size of the set.
 */
function keepNucleus(ids: Int32Array, weights: Float64Array, size: number, topP: number, logits: Float32Array): number {
  const buckets = scratchBuckets;
  const mass = bucketMass.fill(0);
  let total = 0;
  for (let index = 0; index < size; index++) {
    const weight = weights[index]!;
    float[0] = weight;
    // The most likely tokens come first.
    const bucket = BUCKET_COUNT - 1 - (floatBits[0]! >>> DROPPED_BITS);
    buckets[index] = bucket;
    mass[bucket]! += weight;
    total += weight;
  }
  const wanted = topP * total;
  let above = 0;
  let border = 0;
  while (border < BUCKET_COUNT - 1 && above + mass[border]! < wanted) above += mass[border++]!;

  const atBorder: number[] = [];
  for (let index = 0; index < size; index++) if (buckets[index] === border) atBorder.push(index);
  atBorder.sort((a, b) => logits[ids[b]!]! - logits[ids[a]!]! || a - b);
  for (const index of atBorder) {
    // `above` is 0 only before the most likely token, which always stays.
    if (above > 0 && above >= wanted) buckets[index] = BUCKET_COUNT;
    else above += weights[index]!;
  }

  let kept = 0;
  for (let index = 0; index < size; index++) {
    if (buckets[index]! > border) continue;
    ids[kept] = ids[index]!;
    weights[kept++] = weights[index]!;
  }
  return kept;
}

/** The candidate at `draw` in [0, 1) of the cumulated weights, taken in ascending order of ids. */
export function drawFrom(candidates: Candidates, draw: number): number {
  const { ids, weights, total } = candidates;
  let left = draw * total;
  let last = ids[0]!;
  for (let index = 0; index < ids.length; index++) {
    if (weights[index] === 0) continue;
    last = ids[index]!;
    left -= weights[index]!;
    if (left < 0) return last;
  }
  // Rounding may leave a trace of mass behind the last one.
  return last;
}
