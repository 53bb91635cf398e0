/** Which floats a model's activations, caches and adapters are on a device: the setting, and what the device can do. */

/** Values of the setting. */
export type FloatSetting = 'auto' | 'fp16' | 'fp32';

/** A decision. */
export interface FloatChoice {
  readonly floats: 'fp16' | 'fp32';
  /** For the log and for `loramux doctor`. */
  readonly why: string;
}

/**
 * Decides. Rounded weights go with 16-bit floats where the device computes with them; `fp32` weights promise exactness,
 * so they keep 32 bits unless 16 are asked for, which then hold for the weights as well.
 * @param half whether the device has WebGPU's `shader-f16`
 * @throws RangeError when fp16 is asked of a device without it
 */
export function chooseFloats(setting: FloatSetting, dtype: 'fp32' | 'int8' | 'int4', half: boolean): FloatChoice {
  const feature = `the device has ${half ? '' : 'no '}shader-f16`;
  if (setting === 'fp16' && !half)
    throw new RangeError(`--device-floats fp16: ${feature}; fp32 or auto would be right`);
  if (setting !== 'auto') return { floats: setting, why: 'asked for' };
  if (!half) return { floats: 'fp32', why: feature };
  return dtype === 'fp32' ? { floats: 'fp32', why: 'dtype fp32 is exact' } : { floats: 'fp16', why: feature };
}
