/**
 * 8-bit weights in blocks of 32 along the input, symmetric, one float32 scale a block: the layout of onnxruntime's
 * MatMulNBits ([out, blocks, 32] unsigned bytes around 128, and [out * blocks] scales).
 */

/** Where one linear's parts lie in the store's bytes. */
export interface QuantisedEntry {
  readonly weights: { readonly offset: number; readonly length: number };
  readonly scales: { readonly offset: number; readonly length: number };
}

/** All quantised linears of a model, as one stretch of bytes that a session takes as external data. */
export interface QuantisedStore {
  /** Name of the external file as the graph knows it. */
  readonly location: string;
  readonly blockSize: number;
  readonly bytes: Uint8Array;
  entry(tensor: string): QuantisedEntry;
}

/** A weight that is in blocks already. */
export interface Blocks8 {
  /** [out * blocks * 32], around 128. */
  readonly weights: Uint8Array;
  /** [out * blocks] */
  readonly scales: Float32Array;
}

/** A weight to quantise: [out, in] floats, read when its turn comes. */
export interface QuantiseInput {
  readonly tensor: string;
  readonly outFeatures: number;
  readonly inFeatures: number;
  /** True: the floats come as [in, out]. */
  readonly transposed: boolean;
  read(): Promise<Float32Array>;
  /** Blocks to take over as they are, where the weight is stored so. */
  readBlocks?(): Promise<Blocks8 | undefined>;
}

const BLOCK = 32;

/** Quantises every input, one after another, so that only one float copy exists at a time. */
export async function quantise(inputs: readonly QuantiseInput[]): Promise<QuantisedStore> {
  const entries = new Map<string, QuantisedEntry>();
  let total = 0;
  for (const { tensor, outFeatures, inFeatures } of inputs) {
    const blocks = outFeatures * Math.ceil(inFeatures / BLOCK);
    const weights = { offset: total, length: blocks * BLOCK };
    const scales = { offset: total + weights.length, length: blocks * 4 };
    entries.set(tensor, { weights, scales });
    total = scales.offset + scales.length;
  }
  const bytes = new Uint8Array(total);
  for (const input of inputs) {
    const entry = entries.get(input.tensor)!;
    const blocks = await input.readBlocks?.();
    if (blocks !== undefined) {
      bytes.set(blocks.weights, entry.weights.offset);
      new Float32Array(bytes.buffer, entry.scales.offset, entry.scales.length / 4).set(blocks.scales);
      continue;
    }
    const values = input.transposed
      ? transpose(await input.read(), input.inFeatures, input.outFeatures)
      : await input.read();
    const scales = new Float32Array(bytes.buffer, entry.scales.offset, entry.scales.length / 4);
    quantiseRows(
      values,
      input.inFeatures,
      bytes.subarray(entry.weights.offset, entry.weights.offset + entry.weights.length),
      scales,
    );
  }
  return {
    location: 'int8.bin',
    blockSize: BLOCK,
    bytes,
    entry: (tensor) => {
      const found = entries.get(tensor);
      if (found === undefined) throw new Error(`no quantised weight for ${tensor}`);
      return found;
    },
  };
}

/**
 * Per block: scale = -m / 128 with m the value of largest magnitude (sign kept), q = round(w / scale) + 128 in 0..255.
 * So the half range that reaches to -128 serves the side where the largest value lies.
 */
function quantiseRows(values: Float32Array, inFeatures: number, weights: Uint8Array, scales: Float32Array): void {
  const blocks = Math.ceil(inFeatures / BLOCK);
  const rows = values.length / inFeatures;
  for (let row = 0; row < rows; row += 1) {
    for (let block = 0; block < blocks; block += 1) {
      const start = row * inFeatures + block * BLOCK;
      const end = Math.min(start + BLOCK, (row + 1) * inFeatures);
      let largest = 0;
      let magnitude = 0;
      for (let i = start; i < end; i += 1) {
        const value = values[i]!;
        const size = value < 0 ? -value : value;
        if (size > magnitude) {
          magnitude = size;
          largest = value;
        }
      }
      const scale = -largest / 128;
      const inverse = scale === 0 ? 0 : 1 / scale;
      scales[row * blocks + block] = scale;
      const target = (row * blocks + block) * BLOCK - start;
      for (let i = start; i < end; i += 1) {
        const q = Math.round(values[i]! * inverse) + 128;
        weights[target + i] = q > 255 ? 255 : q < 0 ? 0 : q;
      }
      for (let i = end; i < start + BLOCK; i += 1) weights[target + i] = 128;
    }
  }
}

/** [rows, columns] to [columns, rows]. */
function transpose(values: Float32Array, rows: number, columns: number): Float32Array {
  const turned = new Float32Array(values.length);
  for (let r = 0; r < rows; r += 1) {
    for (let c = 0; c < columns; c += 1) turned[c * rows + r] = values[r * columns + c]!;
  }
  return turned;
}
