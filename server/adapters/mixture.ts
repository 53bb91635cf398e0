/** Which adapters may be weighed and summed: those whose whole effect is an update that is added to the base. */

/** Features that replace or rescale; half of a replaced matrix, or two replaced ones at once, have no meaning. */
const NOT_SUMMABLE: ReadonlySet<string> = new Set([
  'dora',
  'bias',
  'replaced_linear',
  'replaced_norm',
  'replaced_embedding',
  'norm_bias',
  'trained_tokens',
  'trained_head_rows',
  'resized_vocabulary',
]);

/** Features of an adapter that keep it out of mixtures and from weights other than 1; empty for plain updates. */
export function notSummable(features: readonly string[]): string[] {
  return features.filter((feature) => NOT_SUMMABLE.has(feature));
}
