/**
 * Locally typical sampling (Meister et al., "Locally Typical Sampling", 2022), with the borders of Hugging Face's
 * TypicalLogitsWarper: of the tokens whose surprise is closest to the expected one, as many as reach the mass.
 */

/**
 * Keeps the typical ones of weighted candidates and moves them to the front, in their order.
 * @param ids first `size` are the candidates
 * @param weights relative probabilities of the candidates
 * @param mass probability to reach, above 0 and below 1
 * @returns how many stay, at least 1
 */
export function keepTypical(ids: Int32Array, weights: Float64Array, size: number, mass: number): number {
  let total = 0;
  for (let index = 0; index < size; index++) total += weights[index]!;
  let entropy = 0;
  const distances = new Float64Array(size);
  for (let index = 0; index < size; index++) {
    const probability = weights[index]! / total;
    const surprise = -Math.log(probability);
    distances[index] = surprise;
    if (probability > 0) entropy += probability * surprise;
  }
  for (let index = 0; index < size; index++) distances[index] = Math.abs(distances[index]! - entropy);
  const order = Uint32Array.from(distances, (_, index) => index).sort((a, b) => distances[a]! - distances[b]! || a - b);
  let above = 0;
  let last = 0;
  for (; last < size - 1; last++) {
    above += weights[order[last]!]! / total;
    if (above >= mass) break;
  }
  // Tokens as far from the expected surprise as the last one that is needed stay, too.
  const border = distances[order[last]!]!;
  let kept = 0;
  for (let index = 0; index < size; index++) {
    if (distances[index]! > border) continue;
    ids[kept] = ids[index]!;
    weights[kept++] = weights[index]!;
  }
  return kept;
}
