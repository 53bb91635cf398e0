/**
 * DoRA (https://arxiv.org/abs/2402.09353) as PEFT applies it: an adapted layer's output is
 * m / ||W + scaling B A|| * (W x + scaling B A x) + bias, the norm taken per output feature over the input features.
 */

/** What {@link doraGain} needs of a layer. */
export interface DoraLayer {
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** True: `weight` is stored [in, out]. */
  readonly conv1d: boolean;
  /** Base weight as stored: [out, in], or [in, out] with conv1d. */
  readonly weight: Float32Array;
  /** [rank, in] */
  readonly a: Float32Array;
  /** [rank, out], scaled. */
  readonly b: Float32Array;
  readonly rank: number;
  /** [out] */
  readonly magnitude: Float32Array;
}

/** [out]: magnitude divided by the norm of the adapted weight's row. Sums are taken in float64. */
export function doraGain(layer: DoraLayer): Float32Array {
  const { inFeatures, outFeatures, conv1d, weight, a, b, rank, magnitude } = layer;
  const gain = new Float32Array(outFeatures);
  const row = new Float64Array(inFeatures);
  for (let o = 0; o < outFeatures; o += 1) {
    if (conv1d) for (let i = 0; i < inFeatures; i += 1) row[i] = weight[i * outFeatures + o]!;
    else row.set(weight.subarray(o * inFeatures, (o + 1) * inFeatures));
    for (let r = 0; r < rank; r += 1) {
      const factor = b[r * outFeatures + o]!;
      const start = r * inFeatures;
      for (let i = 0; i < inFeatures; i += 1) row[i]! += factor * a[start + i]!;
    }
    let sum = 0;
    for (let i = 0; i < inFeatures; i += 1) sum += row[i]! * row[i]!;
    gain[o] = magnitude[o]! / Math.sqrt(sum);
  }
  return gain;
}
