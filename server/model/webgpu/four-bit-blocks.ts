/**
 * 4-bit weights in blocks of 32 along the input, symmetric, one float32 scale a block: MatMulNBits' layout of four bits,
 * [out, blocks, 16] bytes with two elements each (the first one low) around 8, and [out * blocks] scales.
 */

/** Values of a block. */
export const BLOCK = 32;
/** What stands for 0. */
const ZERO = 8;

/**
 * Rounds rows of `inFeatures` floats. Per block: scale = -m / 8 with m the value of largest magnitude (sign kept), and
 * q = round(w / scale) + 8 in 0..15, so the half range that reaches to -8 serves the side of the largest value.
 */
export function fourBitBlocks(
  values: Float32Array,
  inFeatures: number,
): { readonly weights: Uint8Array; readonly scales: Float32Array } {
  const blocks = Math.ceil(inFeatures / BLOCK);
  const outFeatures = values.length / inFeatures;
  const weights = new Uint8Array((outFeatures * blocks * BLOCK) / 2).fill(ZERO * 17);
  const scales = new Float32Array(outFeatures * blocks);
  for (let block = 0; block < outFeatures * blocks; block += 1) {
    const row = Math.floor(block / blocks);
    const start = row * inFeatures + (block % blocks) * BLOCK;
    const end = Math.min(start + BLOCK, (row + 1) * inFeatures);
    let largest = 0;
    for (let i = start; i < end; i += 1) if (Math.abs(values[i]!) > Math.abs(largest)) largest = values[i]!;
    const scale = Math.fround(-largest / ZERO);
    scales[block] = scale;
    if (scale === 0) continue;
    for (let i = start; i < end; i += 1) {
      const q = Math.max(0, Math.min(15, Math.round(values[i]! / scale) + ZERO));
      const at = block * BLOCK + i - start;
      weights[at >> 1] = (at & 1) === 0 ? (weights[at >> 1]! & 0xf0) | q : (weights[at >> 1]! & 0x0f) | (q << 4);
    }
  }
  return { weights, scales };
}
