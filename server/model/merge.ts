/**
 * Merges adapters into a model: the same folder, with some tensors replaced by merged ones that are held in memory. What
 * comes out is a plain model; it equals the unmerged one up to the rounding of float32.
 */
import type { BoundAdapter, BoundLinear, OwnVocabulary } from '../adapters/types.js';
import { AppError } from '../errors.js';
import { type Checkpoint, heldRows } from './checkpoint.js';
import type { ModelFolder } from './model-folder.js';
import { allLinears, allNorms, type DecoderSpec, type LinearSpec, mapLinears } from './spec.js';

/** An adapter, read and flattened (no `replaced` linears left), and the weight its update is multiplied with. */
export interface MergePart {
  readonly adapter: BoundAdapter;
  readonly weight: number;
}

/**
 * The folder with the parts merged in. An adapter with a vocabulary of its own, which is merged alone, makes it the model's.
 * Throws ADAPTER_UNSUPPORTED for what has no merged form, ADAPTER_OVERFLOW where weights leave the range of floats.
 */
export async function mergeInto(folder: ModelFolder, parts: readonly MergePart[]): Promise<ModelFolder> {
  for (const { adapter } of parts) {
    if (adapter.invocationTokens !== undefined) {
      throw new AppError(
        'ADAPTER_UNSUPPORTED',
        'an activated adapter (aLoRA) applies to parts of a prompt; it cannot be merged',
      );
    }
  }
  const changed = new Map<string, Float32Array>();
  const vocabulary = parts.find(({ adapter }) => adapter.vocabulary !== undefined)?.adapter.vocabulary;
  const embeddingChanged = await mergeEmbedding(folder, parts, vocabulary?.size ?? folder.spec.vocabSize, changed);
  let { spec } = folder;
  const { head, embedding } = spec;
  if (
    head.tied &&
    (embeddingChanged || vocabulary !== undefined || parts.some(({ adapter }) => touches(adapter, head.linear.module)))
  ) {
    // Only one side of the tied table changes, so the output matrix becomes a tensor of its own.
    const weight = `${head.linear.module}.weight`;
    changed.set(weight, await folder.checkpoint.readFloat32(embedding.weight));
    spec = { ...spec, head: { ...head, tied: false, linear: { ...head.linear, weight } } };
  }
  for (const linear of allLinears(spec)) {
    const bias = await mergeLinear(folder.checkpoint, linear, parts, changed);
    if (bias !== linear.bias) {
      spec = mapLinears(spec, (other) => (other.module === linear.module ? { ...other, bias } : other));
    }
  }
  mergeNorms(spec, parts, changed);
  if (vocabulary !== undefined) spec = await resizeHead(folder, spec, vocabulary, changed);
  for (const [name, values] of changed) requireFinite(name, values);
  return { ...folder, spec, checkpoint: withChanges(folder.checkpoint, changed, spec.hiddenSize) };
}

/** No answer of a model with an infinite weight can be computed. */
function requireFinite(name: string, values: Float32Array): void {
  let poison = 0;
  for (const value of values) poison += value * 0;
  if (poison === 0) return;
  const why = 'the adapters, or the weights that they are given, are too large';
  throw new AppError('ADAPTER_OVERFLOW', `merged, ${name} leaves the range of floats: ${why}`);
}

/** The head with the outputs of the vocabulary: those of the base that it keeps, then its own. */
async function resizeHead(
  { checkpoint }: ModelFolder,
  spec: DecoderSpec,
  { size, rows, bias: ownBias }: OwnVocabulary,
  changed: Map<string, Float32Array>,
): Promise<DecoderSpec> {
  const { linear } = spec.head;
  const resize = async (name: string, width: number, own: Float32Array | undefined) => {
    const known = changed.get(name) ?? (await checkpoint.readFloat32(name));
    const values = new Float32Array(size * width);
    values.set(known.subarray(0, values.length));
    if (own !== undefined && own.length > 0) values.set(own, spec.vocabSize * width);
    changed.set(name, values);
  };
  await resize(linear.weight, linear.inFeatures, rows);
  let { bias } = linear;
  if (bias === undefined && ownBias !== undefined) {
    bias = `${linear.module}.bias`;
    changed.set(bias, new Float32Array(spec.vocabSize));
  }
  if (bias !== undefined) await resize(bias, 1, ownBias);
  return { ...spec, vocabSize: size, head: { ...spec.head, linear: { ...linear, bias, outFeatures: size } } };
}

function touches(adapter: BoundAdapter, module: string): boolean {
  return adapter.linears.some((linear) => linear.module === module);
}

/** W' = gain * (W + sum of weight * B A), b' = b + sum of weight * delta. Returns the name of the bias, new or old. */
async function mergeLinear(
  checkpoint: Checkpoint,
  linear: LinearSpec,
  parts: readonly MergePart[],
  changed: Map<string, Float32Array>,
): Promise<string | undefined> {
  const updates = parts.flatMap(({ adapter, weight }) =>
    adapter.linears.filter(({ module }) => module === linear.module).map((update) => ({ update, weight })),
  );
  if (updates.length === 0) return linear.bias;
  const values = changed.get(linear.weight) ?? (await checkpoint.readFloat32(linear.weight));
  for (const { update, weight } of updates) addUpdate(values, linear, update, weight);
  changed.set(linear.weight, values);
  const deltas = updates.filter(({ update }) => update.biasDelta !== undefined);
  if (deltas.length === 0) return linear.bias;
  const name = linear.bias ?? `${linear.module}.bias`;
  const bias =
    linear.bias === undefined ? new Float32Array(linear.outFeatures) : await checkpoint.readFloat32(linear.bias);
  for (const { update, weight } of deltas)
    for (const [i, delta] of update.biasDelta!.entries()) bias[i]! += delta * weight;
  changed.set(name, bias);
  return name;
}

/** Adds one update to a stored weight ([out, in], or [in, out] for Conv1D), in float64 sums. */
function addUpdate(values: Float32Array, linear: LinearSpec, update: BoundLinear, weight: number): void {
  const { inFeatures, outFeatures, conv1d } = linear;
  const { rank, a, b, gain } = update;
  const row = new Float64Array(inFeatures);
  for (let o = 0; o < outFeatures; o += 1) {
    row.fill(0);
    for (let r = 0; r < rank; r += 1) {
      const factor = b[r * outFeatures + o]! * weight;
      if (factor === 0) continue;
      for (let i = 0; i < inFeatures; i += 1) row[i]! += factor * a[r * inFeatures + i]!;
    }
    const scale = gain?.[o] ?? 1;
    for (let i = 0; i < inFeatures; i += 1) {
      const at = conv1d ? i * outFeatures + o : o * inFeatures + i;
      values[at] = (values[at]! + row[i]!) * scale;
    }
  }
}

/**
 * Replaced tables and rows first, then low-rank updates; true if anything changed.
 * @param size rows of the merged table
 */
async function mergeEmbedding(
  folder: ModelFolder,
  parts: readonly MergePart[],
  size: number,
  changed: Map<string, Float32Array>,
): Promise<boolean> {
  const touched = parts.filter(({ adapter }) => adapter.embedding !== undefined);
  const { embedding, hiddenSize, vocabSize } = folder.spec;
  if (touched.length === 0 && size === vocabSize) return false;
  const stored = await folder.checkpoint.readFloat32(embedding.weight);
  const table = new Float32Array(size * hiddenSize); // [size, hidden]
  table.set(stored.subarray(0, table.length));
  for (const { adapter } of touched) {
    const { replaced, rows } = adapter.embedding!;
    if (replaced !== undefined) table.set(replaced);
    for (const [id, row] of rows ?? []) table.set(row, id * hiddenSize);
  }
  for (const { adapter, weight } of touched) {
    const { lora } = adapter.embedding!;
    if (lora === undefined) continue;
    for (let id = 0; id < size; id += 1) {
      for (let r = 0; r < lora.rank; r += 1) {
        const factor = lora.a[id * lora.rank + r]! * weight;
        for (let i = 0; i < hiddenSize; i += 1) table[id * hiddenSize + i]! += factor * lora.b[r * hiddenSize + i]!;
      }
      for (let i = 0; lora.gain !== undefined && i < hiddenSize; i += 1) table[id * hiddenSize + i]! *= lora.gain[i]!;
    }
  }
  changed.set(embedding.weight, table);
  return true;
}

function mergeNorms(spec: DecoderSpec, parts: readonly MergePart[], changed: Map<string, Float32Array>): void {
  for (const norm of allNorms(spec)) {
    for (const { adapter } of parts) {
      const weight = adapter.norms.get(norm.module);
      const bias = adapter.normBiases?.get(norm.module);
      if (weight !== undefined) changed.set(norm.weight, weight);
      if (bias !== undefined && norm.bias !== undefined) changed.set(norm.bias, bias);
    }
  }
}

/** @param width of the rows of a changed table */
function withChanges(checkpoint: Checkpoint, changed: ReadonlyMap<string, Float32Array>, width: number): Checkpoint {
  return {
    ...checkpoint,
    changed,
    has: (name) => changed.has(name) || checkpoint.has(name),
    mapped: (name) => (changed.has(name) ? undefined : checkpoint.mapped(name)),
    readBlocks: async (name) => (changed.has(name) ? undefined : checkpoint.readBlocks?.(name)),
    readStored: async (name) => (changed.has(name) ? undefined : checkpoint.readStored?.(name)),
    readRows: async (name) => {
      const values = changed.get(name);
      return values === undefined ? checkpoint.readRows(name) : heldRows(values, width);
    },
    readFloat32: async (name, shape) => changed.get(name)?.slice() ?? checkpoint.readFloat32(name, shape),
  };
}
