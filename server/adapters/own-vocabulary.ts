/**
 * Adapters with a vocabulary of their own: PEFT saves both tables along when the embedding was resized in training, with
 * more rows than the base's (new tokens) or fewer (padding cut off). Binding works on a view of the base that has that
 * many rows; what comes out is split into the base's rows, which the graph applies, and the rows beyond them.
 */
import type { AdapterTensor } from './binding-plan.js';
import type { Faults } from './faults.js';
import { parseTensorName } from './tensor-name.js';
import type { AdapterBase, BoundAdapter, BoundLinear, TargetModule } from './types.js';

/** The base with as many rows as the adapter has. */
export interface ResizedBase extends AdapterBase {
  /** As it is served. */
  readonly served: AdapterBase;
  /**
   * Rows beyond those of the base, by tensor name, once they are read: [rows, hidden] of a table, [rows] of a bias. The
   * adapter's own copy of the tables has them.
   */
  readonly beyond: Map<string, Float32Array>;
}

/** True for a base that was resized. */
export function isResized(base: AdapterBase): base is ResizedBase {
  return 'served' in base;
}

/** Rows of the tables in an adapter's files; the base's own number where they hold no table. Disagreement is noted. */
export function vocabularyOf(tensors: Iterable<AdapterTensor>, base: AdapterBase, faults: Faults): number {
  const hidden = base.modules.get(base.embeddingModule)!.outFeatures;
  let found: AdapterTensor | undefined;
  for (const tensor of tensors) {
    const parsed = parseTensorName(tensor.name, base);
    if (typeof parsed === 'string' || (parsed.part !== 'weight' && parsed.part !== 'base_layer.weight')) continue;
    if (parsed.module.name !== base.embeddingModule && parsed.module.name !== base.headModule) continue;
    const [rows, width] = tensor.shape;
    if (tensor.shape.length !== 2 || width !== hidden || rows === 0) continue; // the check of shapes will tell
    if (found !== undefined && found.shape[0] !== rows) {
      faults.add(
        `${tensor.label}: tensor ${JSON.stringify(tensor.name)} has ${rows} rows, ` +
          `tensor ${JSON.stringify(found.name)} has ${found.shape[0]}: both must have those of one vocabulary`,
      );
      return base.vocabSize;
    }
    found ??= tensor;
  }
  return found?.shape[0] ?? base.vocabSize;
}

/** A view of the base with `size` rows; the base itself where it has as many. */
export function resizeBase(base: AdapterBase, size: number): AdapterBase {
  if (size === base.vocabSize) return base;
  const { embeddingModule, headModule } = base;
  const resize = (module: TargetModule): TargetModule => {
    if (module.name === embeddingModule) return { ...module, inFeatures: size };
    return module.name === headModule ? { ...module, outFeatures: size } : module;
  };
  const beyond = new Map<string, Float32Array>();
  const resized: ResizedBase = {
    ...base,
    served: base,
    beyond,
    vocabSize: size,
    modules: new Map([...base.modules].map(([name, module]) => [name, resize(module)])),
    readWeight: async (name) => {
      const own = await base.readWeight(name);
      const rest = rowsBeyond(resized, name);
      const ofVocabulary = name.startsWith(`${embeddingModule}.`) || name.startsWith(`${headModule}.`);
      if (!ofVocabulary) return own;
      const length = (own.length / base.vocabSize) * size;
      const values = new Float32Array(length);
      values.set(own.subarray(0, length));
      if (rest !== undefined) values.set(rest, own.length);
      return values;
    },
  };
  return resized;
}

/** The rows beyond the base's; each end of a tied table has those of the other where the files do not say otherwise. */
function rowsBeyond(base: ResizedBase, name: string): Float32Array | undefined {
  const known = base.beyond.get(name);
  const ends = [`${base.embeddingModule}.weight`, `${base.headModule}.weight`];
  if (known !== undefined || !base.tiedHead || !ends.includes(name)) return known;
  return base.beyond.get(ends.find((end) => end !== name)!);
}

type Parts = Pick<BoundAdapter, 'embedding' | 'headRows' | 'linears'>;

/**
 * Splits what was bound to a resized base: the rows that the served base has, and those beyond them.
 * @param activated true for an activated adapter, whose low-rank matrices wait for the invocation
 */
export async function splitVocabulary(
  parts: Parts,
  base: ResizedBase,
  activated: boolean,
): Promise<Parts & Pick<BoundAdapter, 'vocabulary'>> {
  const { served, vocabSize: size } = base;
  const hidden = served.modules.get(served.embeddingModule)!.outFeatures;
  const isHead = ({ module }: BoundLinear) => module === base.headModule;
  const heads = parts.linears.filter(isHead);
  const always = heads.filter((linear) => linear.always === true);
  const linears: BoundLinear[] = [];
  for (const linear of parts.linears) linears.push(isHead(linear) ? await servedRows(linear, base) : linear);
  const ofServed = [...(parts.headRows ?? [])].filter(([id]) => id < served.vocabSize);
  return {
    linears,
    embedding: size > served.vocabSize ? withRows(parts.embedding, base, hidden) : parts.embedding,
    headRows: ofServed.length > 0 ? new Map(ofServed) : undefined,
    vocabulary: {
      size,
      ...headBeyond(base, heads, parts.headRows, hidden),
      before: activated && heads.length > always.length ? headBeyond(base, always, parts.headRows, hidden) : undefined,
    },
  };
}

/**
 * The output rows beyond the base's with all that the adapter does to them: [more, hidden], and their biases.
 * @param heads the head's entries: one, or of an activated adapter one that replaces and one that waits
 */
function headBeyond(
  base: ResizedBase,
  heads: readonly BoundLinear[],
  trained: BoundAdapter['headRows'],
  hidden: number,
): { rows: Float32Array; bias: Float32Array | undefined } {
  const { served, vocabSize, headModule } = base;
  const from = served.vocabSize;
  const more = Math.max(0, vocabSize - from);
  const replaced = heads.find((head) => head.replaced !== undefined)?.replaced;
  const known = replaced?.subarray(from * hidden) ?? rowsBeyond(base, `${headModule}.weight`);
  const rows = new Float32Array(more * hidden);
  if (known !== undefined && more > 0) rows.set(known);
  for (const [id, row] of trained ?? []) if (id >= from) rows.set(row, (id - from) * hidden);
  for (const head of heads) for (let row = 0; row < more; row += 1) addLowRank(head, from + row, rows, row * hidden);
  const own = base.beyond.get(`${headModule}.bias`);
  const deltas = heads.flatMap(({ biasDelta }) => (biasDelta === undefined ? [] : [biasDelta]));
  if (more === 0 || (own === undefined && deltas.length === 0)) return { rows, bias: undefined };
  const bias = Float32Array.from({ length: more }, (_, i) =>
    deltas.reduce((sum, delta) => sum + delta[from + i]!, own?.[i] ?? 0),
  );
  return { rows, bias };
}

/** Adds the update of one output to its row, which begins at `at`, and multiplies it by its gain. */
function addLowRank({ a, b, rank, gain }: BoundLinear, output: number, rows: Float32Array, at: number): void {
  const outputs = b.length / rank;
  const hidden = a.length / rank;
  for (let r = 0; r < rank; r += 1) {
    const factor = b[r * outputs + output]!;
    for (let i = 0; i < hidden; i += 1) rows[at + i]! += factor * a[r * hidden + i]!;
  }
  const scale = gain?.[output] ?? 1;
  if (scale !== 1) for (let i = 0; i < hidden; i += 1) rows[at + i]! *= scale;
}

/** The head with the base's number of outputs; rows that the adapter does not have keep what the base has there. */
async function servedRows(linear: BoundLinear, { served, vocabSize }: ResizedBase): Promise<BoundLinear> {
  const { vocabSize: own } = served;
  const kept = Math.min(own, vocabSize);
  const fit = (values: Float32Array, neutral: number) => {
    const fitted = new Float32Array(own).fill(neutral);
    fitted.set(values.subarray(0, kept));
    return fitted;
  };
  const b = new Float32Array(linear.rank * own);
  for (let r = 0; r < linear.rank; r += 1) b.set(linear.b.subarray(r * vocabSize, r * vocabSize + kept), r * own);
  let { replaced } = linear;
  if (replaced !== undefined) {
    const whole = await served.readWeight(`${linear.module}.weight`);
    whole.set(replaced.subarray(0, (whole.length / own) * kept));
    replaced = whole;
  }
  return {
    ...linear,
    b,
    replaced,
    gain: linear.gain && fit(linear.gain, 1),
    biasDelta: linear.biasDelta && fit(linear.biasDelta, 0),
  };
}

/** The embedding with a row for every new token, unless the adapter brings a whole table or trained the row. */
function withRows(embedding: BoundAdapter['embedding'], base: ResizedBase, hidden: number): BoundAdapter['embedding'] {
  if (embedding?.replaced !== undefined) return embedding;
  const rows = new Map(embedding?.rows);
  const table = rowsBeyond(base, `${base.embeddingModule}.weight`)!;
  const from = base.served.vocabSize;
  for (let id = from; id < base.vocabSize; id += 1) {
    if (!rows.has(id)) rows.set(id, table.slice((id - from) * hidden, (id - from + 1) * hidden));
  }
  return { lora: embedding?.lora, replaced: undefined, rows };
}
