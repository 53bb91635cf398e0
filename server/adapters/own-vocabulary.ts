/**
 * Adapters with a vocabulary of their own: PEFT saves both tables along when the embedding was resized in training, with
 * more rows than the base's (new tokens) or fewer (padding cut off). Binding works on a view of the base that has that
 * many rows; what comes out is split into the base's rows, which the graph applies, and the rows beyond them.
 */
import type { AddedToken } from './added-tokens.js';
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

/** The rows beyond the base's; a tied head has those of the embedding where the files do not say otherwise. */
function rowsBeyond(base: ResizedBase, name: string): Float32Array | undefined {
  const known = base.beyond.get(name);
  if (known !== undefined || !base.tiedHead || name !== `${base.headModule}.weight`) return known;
  return base.beyond.get(`${base.embeddingModule}.weight`);
}

type Parts = Pick<BoundAdapter, 'embedding' | 'headRows' | 'linears'>;

/** Splits what was bound to a resized base: the rows that the served base has, and those beyond them. */
export async function splitVocabulary(
  parts: Parts,
  base: ResizedBase,
  tokens: readonly AddedToken[],
): Promise<Parts & Pick<BoundAdapter, 'vocabulary'>> {
  const { served, vocabSize: size } = base;
  const hidden = served.modules.get(served.embeddingModule)!.outFeatures;
  const more = size - served.vocabSize;
  const head = parts.linears.find(({ module }) => module === base.headModule);
  const headRows = new Map(parts.headRows);
  const vocabulary = { size, tokens, ...(await headBeyond(base, head, Math.max(0, more), hidden)) };
  for (const [id, row] of parts.headRows ?? []) {
    if (id < served.vocabSize) continue;
    vocabulary.rows.set(row, (id - served.vocabSize) * hidden);
    headRows.delete(id);
  }
  const linears: BoundLinear[] = [];
  for (const linear of parts.linears) linears.push(linear === head ? await servedRows(linear, base) : linear);
  return {
    linears,
    embedding: more > 0 ? withRows(parts.embedding, base, hidden) : parts.embedding,
    headRows: headRows.size > 0 ? headRows : undefined,
    vocabulary,
  };
}

/** The output rows beyond the base's with all that the adapter does to them: [more, hidden], and their biases. */
async function headBeyond(
  base: ResizedBase,
  head: BoundLinear | undefined,
  more: number,
  hidden: number,
): Promise<{ rows: Float32Array; bias: Float32Array | undefined }> {
  const { served, vocabSize, headModule } = base;
  const from = served.vocabSize;
  const known = head?.replaced?.subarray(from * hidden) ?? rowsBeyond(base, `${headModule}.weight`);
  const rows = new Float32Array(more * hidden);
  if (known !== undefined && more > 0) rows.set(known);
  for (let row = 0; head !== undefined && row < more; row += 1) {
    for (let r = 0; r < head.rank; r += 1) {
      const factor = head.b[r * vocabSize + from + row]!;
      for (let i = 0; i < hidden; i += 1) rows[row * hidden + i]! += factor * head.a[r * hidden + i]!;
    }
    const gain = head.gain?.[from + row] ?? 1;
    if (gain !== 1) for (let i = 0; i < hidden; i += 1) rows[row * hidden + i]! *= gain;
  }
  const own = base.beyond.get(`${headModule}.bias`);
  const delta = head?.biasDelta?.subarray(from);
  if (more === 0 || (own === undefined && delta === undefined)) return { rows, bias: undefined };
  return { rows, bias: Float32Array.from({ length: more }, (_, i) => (own?.[i] ?? 0) + (delta?.[i] ?? 0)) };
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
  const table = base.beyond.get(`${base.embeddingModule}.weight`)!;
  const from = base.served.vocabSize;
  for (let id = from; id < base.vocabSize; id += 1) {
    if (!rows.has(id)) rows.set(id, table.slice((id - from) * hidden, (id - from + 1) * hidden));
  }
  return { lora: embedding?.lora, replaced: undefined, rows };
}
