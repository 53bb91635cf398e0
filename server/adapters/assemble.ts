/** Puts an adapter's tensors into the form that the engine applies: transposed, scaled, with gains and bias deltas. */

import { forEachArray } from './adapter-arrays.js';
import type { AdapterText } from './adapter-text.js';
import type { BaseCheck } from './base-identity.js';
import { type BindingPlan, baseTensorName } from './binding-plan.js';
import { doraGain } from './dora.js';
import type { Faults } from './faults.js';
import { adapterFeatures, configWarnings } from './features.js';
import { checkOverflow } from './overflow.js';
import { isResized, splitVocabulary } from './own-vocabulary.js';
import type { PeftConfig } from './peft-config.js';
import type { ModuleParts } from './read-parts.js';
import type { SlotUse } from './slot-use.js';
import { transpose } from './transpose.js';
import type { AdapterBase, BoundAdapter, BoundEmbedding, BoundLinear } from './types.js';

/** Of a linear without low-rank matrices; new each time, for what crosses threads is gone in this one. */
const none = () => new Float32Array(0);

/** Everything that assembly needs. */
export interface AssemblyInput {
  readonly config: PeftConfig;
  readonly base: AdapterBase;
  readonly plan: BindingPlan;
  readonly parts: ReadonlyMap<string, ModuleParts>;
  readonly digest: string;
  readonly faults: Faults;
  readonly baseCheck: BaseCheck;
  /** What the tokenizer files beside the adapter say. */
  readonly text: AdapterText | undefined;
}

/** Takes a tensor out of its module's parts, so that its memory can go once it is converted. */
function take(parts: ModuleParts, use: SlotUse): Float32Array | undefined {
  const values = parts.tensors.get(use);
  parts.tensors.delete(use);
  return values;
}

/** [out]: what the module's replaced bias adds to the base's, or undefined. */
async function replacedDelta(parts: ModuleParts, base: AdapterBase): Promise<Float32Array | undefined> {
  const replaced = take(parts, 'bias');
  if (replaced === undefined) return undefined;
  const own = await base.readWeight(`${parts.module.name}.bias`);
  return replaced.map((value, i) => value - own[i]!);
}

/** A linear's entries: one; of an activated adapter what replaces something is one of its own, it waits for nothing. */
async function assembleLinear(parts: ModuleParts, input: AssemblyInput): Promise<BoundLinear[]> {
  const { module } = parts;
  const { inFeatures, outFeatures, conv1d, name } = module;
  const promise = input.plan.promised.lora.get(name);
  const rank = promise?.rank ?? 0;
  const scaling = promise?.scaling ?? 0;
  const a = take(parts, 'lora_A') ?? none();
  const stored = take(parts, 'lora_B');
  const b = parts.scaledB ?? transpose(stored ?? none(), outFeatures, rank, scaling);
  const linear: { -readonly [K in keyof BoundLinear]: BoundLinear[K] } = { module: name, rank, scaling, a, b };
  const whole = take(parts, 'weight');
  const replaced = whole !== undefined && conv1d ? transpose(whole, inFeatures, outFeatures) : whole;
  const delta = await replacedDelta(parts, input.base);
  const ofB = take(parts, 'lora_B.bias')?.map((value) => value * scaling);
  if (ofB !== undefined) linear.biasDelta = ofB;
  const magnitude = take(parts, 'lora_magnitude_vector');
  if (magnitude !== undefined) {
    const weight = await input.base.readWeight(baseTensorName(module, 'weight', input.base));
    linear.gain = doraGain({ inFeatures, outFeatures, conv1d, weight, a, b, rank, magnitude });
  }
  checkOverflow(name, stored === undefined ? undefined : b, input.faults, linear.gain);
  if (replaced === undefined && delta === undefined) return [linear];
  if (input.config.invocationTokens === null) {
    const both = delta === undefined || ofB === undefined ? (delta ?? ofB) : delta.map((value, i) => value + ofB[i]!);
    return [{ ...linear, replaced, biasDelta: both }];
  }
  const always = { module: name, rank: 0, scaling: 0, a: none(), b: none(), replaced, biasDelta: delta, always: true };
  return rank > 0 ? [always, linear] : [always];
}

async function assembleEmbedding(
  parts: ModuleParts,
  rows: BoundEmbedding['rows'],
  input: AssemblyInput,
): Promise<BoundEmbedding> {
  return { lora: await embeddingPair(parts, input), rows, replaced: take(parts, 'weight') };
}

async function embeddingPair(parts: ModuleParts, input: AssemblyInput): Promise<BoundEmbedding['lora']> {
  const { inFeatures, outFeatures, name } = parts.module;
  const promise = input.plan.promised.lora.get(name);
  const stored = take(parts, 'lora_embedding_A'); // [rank, vocab]
  const b = take(parts, 'lora_embedding_B');
  const magnitude = take(parts, 'lora_magnitude_vector');
  if (promise === undefined || stored === undefined || b === undefined) return undefined;
  const { rank, scaling } = promise;
  const scaled = transpose(b, outFeatures, rank, scaling);
  let gain: Float32Array | undefined;
  if (magnitude !== undefined) {
    // One gain per feature of a row, its norm taken over the whole vocabulary: a table is a weight stored [in, out].
    const weight = await input.base.readWeight(baseTensorName(parts.module, 'weight', input.base));
    const layer = { inFeatures, outFeatures, conv1d: true, weight, a: stored, b: scaled, rank, magnitude };
    gain = doraGain(layer);
  }
  checkOverflow(name, scaled, input.faults, gain);
  return { rank, scaling, a: transpose(stored, rank, inFeatures), b: scaled, gain };
}

/** id -> its row, each an array of its own so that it can be transferred. */
function tokenRows(ids: readonly number[], values: Float32Array): Map<number, Float32Array> {
  const width = values.length / ids.length;
  return new Map(ids.map((id, i) => [id, values.slice(i * width, (i + 1) * width)]));
}

/** Builds the adapter from its parts; numbers that overflow are noted in `input.faults`. */
export async function assembleAdapter(input: AssemblyInput): Promise<BoundAdapter> {
  const { base, plan, config } = input;
  const linears: BoundLinear[] = [];
  const norms = new Map<string, Float32Array>();
  const normBiases = new Map<string, Float32Array>();
  let embedding: BoundEmbedding | undefined;
  let headRows: Map<number, Float32Array> | undefined;
  for (const parts of input.parts.values()) {
    const { name, kind } = parts.module;
    const ids = plan.tokens.get(name);
    const delta = take(parts, 'trainable_tokens_delta');
    const rows = ids === undefined || delta === undefined ? undefined : tokenRows(ids, delta);
    if (rows !== undefined && (name === base.headModule || (base.tiedHead && !plan.tokens.has(base.headModule)))) {
      headRows = new Map([...rows].map(([id, row]) => [id, row.slice()]));
    }
    if (kind === 'linear' && parts.tensors.size > 0) linears.push(...(await assembleLinear(parts, input)));
    else if (kind === 'embedding') embedding = await assembleEmbedding(parts, rows, input);
    else if (kind === 'norm') {
      const weight = take(parts, 'weight');
      const bias = take(parts, 'bias');
      if (weight !== undefined) norms.set(name, weight);
      if (bias !== undefined) normBiases.set(name, bias);
    }
  }
  const order = new Map([...base.modules.keys()].map((name, i) => [name, i]));
  linears.sort((x, y) => order.get(x.module)! - order.get(y.module)!);
  const whole = { linears, embedding, headRows };
  const adapter = {
    digest: input.digest,
    ...(isResized(base) ? await splitVocabulary(whole, base, config.invocationTokens !== null) : whole),
    norms,
    normBiases: normBiases.size > 0 ? normBiases : undefined,
    text: input.text,
    invocationTokens: config.invocationTokens ?? undefined,
    warnings: configWarnings(config, plan, base, input.baseCheck),
  };
  let bytes = 0;
  const features = adapterFeatures({ ...adapter, features: [] }, config, base);
  forEachArray({ ...adapter, features }, (values) => {
    bytes += values.byteLength;
  });
  return { ...adapter, features, bytes };
}
