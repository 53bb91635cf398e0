/** Puts an adapter's tensors into the form that the engine applies: transposed, scaled, with gains and bias deltas. */

import type { AddedToken } from './added-tokens.js';
import type { BaseCheck } from './base-identity.js';
import { type BindingPlan, baseTensorName, type SlotUse } from './binding-plan.js';
import { doraGain, transpose } from './dora.js';
import type { Faults } from './faults.js';
import { adapterFeatures, configWarnings } from './features.js';
import { isResized, splitVocabulary } from './own-vocabulary.js';
import type { PeftConfig } from './peft-config.js';
import { firstNonFinite } from './tensor-dtype.js';
import type { AdapterBase, BoundAdapter, BoundEmbedding, BoundLinear, TargetModule } from './types.js';

/** The tensors of one module, as float32. */
export interface ModuleParts {
  readonly module: TargetModule;
  readonly tensors: Map<SlotUse, Float32Array>;
}

/** Everything that assembly needs. */
export interface AssemblyInput {
  readonly config: PeftConfig;
  readonly base: AdapterBase;
  readonly plan: BindingPlan;
  readonly parts: ReadonlyMap<string, ModuleParts>;
  readonly digest: string;
  readonly faults: Faults;
  readonly baseCheck: BaseCheck;
  /** Added by the tokenizer beside an adapter with a vocabulary of its own. */
  readonly tokens: readonly AddedToken[];
}

/** Takes a tensor out of its module's parts, so that its memory can go once it is converted. */
function take(parts: ModuleParts, use: SlotUse): Float32Array | undefined {
  const values = parts.tensors.get(use);
  parts.tensors.delete(use);
  return values;
}

/** [out]: what is added to the base's bias, or undefined. */
async function biasDelta(parts: ModuleParts, scaling: number, base: AdapterBase): Promise<Float32Array | undefined> {
  const replaced = take(parts, 'bias');
  const ofB = take(parts, 'lora_B.bias');
  if (replaced === undefined && ofB === undefined) return undefined;
  const delta = new Float32Array(parts.module.outFeatures);
  if (replaced !== undefined) {
    const own = await base.readWeight(`${parts.module.name}.bias`);
    for (let i = 0; i < delta.length; i += 1) delta[i] = replaced[i]! - own[i]!;
  }
  if (ofB !== undefined) for (let i = 0; i < delta.length; i += 1) delta[i]! += scaling * ofB[i]!;
  return delta;
}

async function assembleLinear(parts: ModuleParts, input: AssemblyInput): Promise<BoundLinear> {
  const { module } = parts;
  const { inFeatures, outFeatures, conv1d, name } = module;
  const promise = input.plan.promised.lora.get(name);
  const rank = promise?.rank ?? 0;
  const scaling = promise?.scaling ?? 0;
  const a = take(parts, 'lora_A') ?? new Float32Array(0);
  const b = transpose(take(parts, 'lora_B') ?? new Float32Array(0), outFeatures, rank, scaling);
  const linear: { -readonly [K in keyof BoundLinear]: BoundLinear[K] } = { module: name, rank, scaling, a, b };
  const whole = take(parts, 'weight');
  if (whole !== undefined) linear.replaced = conv1d ? transpose(whole, inFeatures, outFeatures) : whole;
  const delta = await biasDelta(parts, scaling, input.base);
  if (delta !== undefined) linear.biasDelta = delta;
  const magnitude = take(parts, 'lora_magnitude_vector');
  if (magnitude !== undefined) {
    const weight = await input.base.readWeight(baseTensorName(module, 'weight', input.base));
    linear.gain = doraGain({ inFeatures, outFeatures, conv1d, weight, a, b, rank, magnitude });
  }
  for (const [what, values] of Object.entries({ 'lora_B times the scaling': b, 'DoRA gain': linear.gain })) {
    const bad = values === undefined ? -1 : firstNonFinite(values);
    if (bad >= 0) input.faults.add(`${name}: ${what} is not finite at element ${bad}`);
  }
  return linear;
}

/** Of an activated adapter, what replaces something is an entry of its own: it does not wait for the invocation. */
function entriesOf(linear: BoundLinear, { invocationTokens, loraBias }: PeftConfig): BoundLinear[] {
  const { replaced, biasDelta, ...lowRank } = linear;
  const replaces = replaced !== undefined || (biasDelta !== undefined && !loraBias);
  if (invocationTokens === null || !replaces) return [linear];
  const none = new Float32Array(0);
  const always = { module: linear.module, rank: 0, scaling: 0, a: none, b: none, replaced, biasDelta, always: true };
  return linear.rank > 0 ? [always, lowRank] : [always];
}

function assembleEmbedding(parts: ModuleParts, rows: BoundEmbedding['rows'], input: AssemblyInput): BoundEmbedding {
  const { inFeatures, outFeatures, name } = parts.module;
  const promise = input.plan.promised.lora.get(name);
  const a = take(parts, 'lora_embedding_A');
  const b = take(parts, 'lora_embedding_B');
  return {
    lora:
      promise === undefined || a === undefined || b === undefined
        ? undefined
        : {
            rank: promise.rank,
            scaling: promise.scaling,
            a: transpose(a, promise.rank, inFeatures),
            b: transpose(b, outFeatures, promise.rank, promise.scaling),
          },
    rows,
    replaced: take(parts, 'weight'),
  };
}

/** id -> its row, each an array of its own so that it can be transferred. */
function tokenRows(ids: readonly number[], values: Float32Array): Map<number, Float32Array> {
  const width = values.length / ids.length;
  return new Map(ids.map((id, i) => [id, values.slice(i * width, (i + 1) * width)]));
}

/** Calls `visit` with every array of an adapter. */
export function forEachArray(adapter: Omit<BoundAdapter, 'bytes'>, visit: (values: Float32Array) => void): void {
  for (const linear of adapter.linears) {
    for (const values of [linear.a, linear.b, linear.gain, linear.biasDelta, linear.replaced]) {
      if (values !== undefined) visit(values);
    }
  }
  const { embedding } = adapter;
  for (const values of [embedding?.lora?.a, embedding?.lora?.b, embedding?.replaced]) {
    if (values !== undefined) visit(values);
  }
  for (const map of [embedding?.rows, adapter.norms, adapter.normBiases, adapter.headRows]) {
    for (const values of map?.values() ?? []) visit(values);
  }
  for (const values of [adapter.vocabulary?.rows, adapter.vocabulary?.bias]) if (values !== undefined) visit(values);
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
    if (kind === 'linear' && parts.tensors.size > 0)
      linears.push(...entriesOf(await assembleLinear(parts, input), config));
    else if (kind === 'embedding') embedding = assembleEmbedding(parts, rows, input);
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
    ...(isResized(base) ? await splitVocabulary(whole, base, input.tokens) : whole),
    norms,
    normBiases: normBiases.size > 0 ? normBiases : undefined,
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
