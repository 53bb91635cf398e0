/**
 * Temperature, top-k, top-p, min-p and typical-p: from logits to the tokens that may be drawn and their weights. The order and the
 * borders are those of Hugging Face's logits warpers; the work is linear in the vocabulary.
 */
import { expOfMinus } from './logits-exp.js';
import { argmax, largest } from './logits-select.js';
import { keepTypical } from './logits-typical.js';
import { borderOf, staying } from './nucleus-border.js';

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

/** Buckets of the top-p search lie 1/64 nat apart; the last one takes everything below e^-64 of the best. */
const BUCKETS_PER_NAT = 64;
const BUCKET_COUNT = 4096;

/** Working memory, as large as the largest vocabulary seen: a megabyte a token would else go to the collector. */
let scratchIds = new Int32Array(0);
let scratchWeights = new Float64Array(0);
let scratchBuckets = new Uint16Array(0);
const bucketMass = new Float64Array(BUCKET_COUNT);

/** Applies temperature, top-k (ties at the cut stay), top-p, min-p and typical-p, in this order. */
export function filterLogits(logits: Float32Array, options: FilterOptions): Candidates {
  const best = logits[argmax(logits)]!;
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
  let size = weigh(logits, best, temperature, bound, ids, weights);
  if (topP < 1) size = keepNucleus(ids, weights, size, topP, logits, best, temperature);
  return narrow(ids, weights, size, minP, typicalP);
}

/** What min-p and typical-p leave of the first `size` candidates, moved to the front in their order. */
export function narrow(
  ids: Int32Array,
  weights: Float64Array,
  size: number,
  minP: number,
  typicalP: number,
): Candidates {
  let kept = size;
  if (minP > 0) {
    kept = 0;
    for (let index = 0; index < size; index++) {
      if (weights[index]! < minP) continue;
      ids[kept] = ids[index]!;
      weights[kept++] = weights[index]!;
    }
  }
  if (typicalP < 1) kept = keepTypical(ids, weights, kept, typicalP);
  let total = 0;
  for (let index = 0; index < kept; index++) total += weights[index]!;
  return { ids: ids.subarray(0, kept), weights: weights.subarray(0, kept), total };
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

/**
 * Keeps the smallest set of most likely tokens whose mass reaches `topP` and moves it to the front: a token stays while
 * the mass of those above it is below `topP`. Only the bucket in which the mass is reached is sorted; on equal logits
 * lower ids stay. Returns the size of the set.
 */
function keepNucleus(
  ids: Int32Array,
  weights: Float64Array,
  size: number,
  topP: number,
  logits: Float32Array,
  best: number,
  temperature: number,
): number {
  const buckets = scratchBuckets;
  const mass = bucketMass.fill(0);
  let total = 0;
  for (let index = 0; index < size; index++) {
    const bucket = Math.min(
      BUCKET_COUNT - 1,
      Math.floor(((best - logits[ids[index]!]!) / temperature) * BUCKETS_PER_NAT),
    );
    buckets[index] = bucket;
    mass[bucket]! += weights[index]!;
    total += weights[index]!;
  }
  const wanted = topP * total;
  const { border, above } = borderOf(mass, wanted);

  const atBorder: number[] = [];
  for (let index = 0; index < size; index++) if (buckets[index] === border) atBorder.push(index);
  atBorder.sort((a, b) => logits[ids[b]!]! - logits[ids[a]!]! || a - b);
  for (const index of atBorder.slice(staying(atBorder, weights, above, wanted))) buckets[index] = BUCKET_COUNT;

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
