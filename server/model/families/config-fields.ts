/** Fields of config.json that many families share: sizes, activation, rotary settings, windows. */
import type { ConfigReader } from '../config-reader.js';
import { buildRope, type RopeInput } from '../rope.js';
import type { Activation, RopeSpec } from '../spec.js';

/** Sizes that almost every family has under the same names. */
export interface Sizes {
  readonly hidden: number;
  readonly layers: number;
  readonly queryHeads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly intermediate: number;
  readonly vocab: number;
  readonly context: number;
  readonly epsilon: number;
}

/**
 * Reads the sizes; `epsilonName` is `rms_norm_eps` in most families.
 * @param headDim what a head has where the config says nothing; absent = an equal share of the hidden size
 */
export function readSizes(config: ConfigReader, epsilonName = 'rms_norm_eps', epsilon = 1e-6, headDim?: number): Sizes {
  const hidden = config.count('hidden_size');
  const queryHeads = config.count('num_attention_heads');
  const kvHeads = config.count('num_key_value_heads', queryHeads);
  if (queryHeads % kvHeads !== 0) throw config.fault('num_key_value_heads', `a divisor of ${queryHeads}`, kvHeads);
  const ownHeadDim = config.optionalNumber('head_dim', headDim);
  if (ownHeadDim === undefined && hidden % queryHeads !== 0)
    throw config.fault('hidden_size', `a multiple of num_attention_heads = ${queryHeads}`, hidden);
  return {
    hidden,
    layers: config.count('num_hidden_layers'),
    queryHeads,
    kvHeads,
    headDim: config.count('head_dim', ownHeadDim ?? hidden / queryHeads),
    intermediate: config.count('intermediate_size'),
    vocab: config.count('vocab_size'),
    context: config.count('max_position_embeddings', 2048),
    epsilon: config.number(epsilonName, epsilon),
  };
}

/** Hidden size and heads with an equal share of it each, by the names that a family has for the two. */
export function readHeads(
  config: ConfigReader,
  hiddenName: string,
  headsName: string,
): Pick<Sizes, 'hidden' | 'queryHeads' | 'kvHeads' | 'headDim'> {
  const hidden = config.count(hiddenName);
  const heads = config.count(headsName);
  if (hidden % heads !== 0) throw config.fault(hiddenName, `a multiple of ${headsName} = ${heads}`, hidden);
  return { hidden, queryHeads: heads, kvHeads: heads, headDim: hidden / heads };
}

const ACTIVATIONS: Readonly<Record<string, Activation>> = {
  silu: 'silu',
  swish: 'silu',
  gelu: 'gelu',
  gelu_new: 'gelu_tanh',
  gelu_fast: 'gelu_tanh',
  gelu_pytorch_tanh: 'gelu_tanh',
  relu: 'relu',
  relu2: 'relu2',
};

/** The activation named by one of `fields`, the first that is there. */
export function readActivation(config: ConfigReader, fields: readonly string[], fallback: string): Activation {
  let name = fallback;
  for (const field of fields) {
    const value = config.raw(field);
    if (typeof value === 'string') {
      name = value;
      break;
    }
  }
  const activation = Object.hasOwn(ACTIVATIONS, name) ? ACTIVATIONS[name] : undefined;
  if (activation === undefined)
    throw config.fault(fields[0]!, Object.keys(ACTIVATIONS).join(', '), name, 'is not implemented');
  return activation;
}

/** What a family does with its rotary settings, where it differs from Llama. */
export interface RopeOptions {
  /** Pairs are neighbours. */
  readonly interleaved?: boolean;
  /** theta where the config names none. */
  readonly theta?: number;
  /** The part of each head that is rotated where the config names none; absent = the family rotates whole heads only. */
  readonly partial?: number;
  /** `original_max_position_embeddings` where the config names none. */
  readonly original?: number;
  readonly rules?: RopeInput['rules'];
}

/** The main rotary table, from `rope_theta` + `rope_scaling` (transformers 4) or from `rope_parameters` (5). */
export function readRope(
  config: ConfigReader,
  sizes: Pick<Sizes, 'headDim' | 'context'>,
  options: RopeOptions = {},
): RopeSpec {
  const newer = config.object('rope_parameters');
  const parameters = config.object('rope_scaling') ?? newer;
  const outerTheta = config.positive('rope_theta', options.theta ?? 10_000);
  const outerPartial = config.optionalNumber('partial_rotary_factor');
  const theta = parameters?.positive('rope_theta', outerTheta) ?? outerTheta;
  const partial = parameters?.optionalNumber('partial_rotary_factor') ?? outerPartial;
  if (options.partial === undefined && partial !== undefined && partial !== 1)
    throw config.fault('partial_rotary_factor', '1', partial, 'is not implemented for this family');
  const rotaryDim = Math.floor(sizes.headDim * (partial ?? options.partial ?? 1));
  if (rotaryDim <= 0 || rotaryDim > sizes.headDim || rotaryDim % 2 !== 0)
    throw config.fault('partial_rotary_factor', `an even part of the ${sizes.headDim} dimensions of a head`, partial);
  const rope = buildRope({
    theta,
    rotaryDim,
    contextLength: sizes.context,
    scaling: parameters,
    originalContextLength: config.optionalNumber('original_max_position_embeddings') ?? options.original,
    rules: options.rules,
  });
  parameters?.finish();
  return options.interleaved === true ? { ...rope, interleaved: true } : rope;
}

/**
 * The full layers' table, then the sliding layers'. transformers 5 keys `rope_parameters` by layer type; before, the
 * scaling was for the full layers alone.
 * @param thetas of the full and of the sliding layers, where `rope_parameters` names none
 */
export function readTwoRopes(
  config: ConfigReader,
  sizes: Pick<Sizes, 'headDim' | 'context'>,
  thetas: { readonly full: number; readonly sliding: number },
): RopeSpec[] {
  const parameters = config.object('rope_parameters');
  const older = config.object('rope_scaling');
  if (parameters !== undefined && older !== undefined)
    throw config.fault('rope_scaling', 'nothing beside rope_parameters', config.raw('rope_scaling'));
  const build = (scaling: ConfigReader | undefined, theta: number) => {
    const rope = buildRope({
      theta: scaling?.positive('rope_theta', theta) ?? theta,
      rotaryDim: sizes.headDim,
      contextLength: sizes.context,
      scaling,
    });
    scaling?.finish();
    return rope;
  };
  const ropes = [
    build(parameters?.object('full_attention') ?? older, thetas.full),
    build(parameters?.object('sliding_attention'), thetas.sliding),
  ];
  parameters?.finish();
  return ropes;
}

/** Which layers slide: `layer_types` where it is there, else `rule`. Returns a window or undefined per layer. */
export function readWindows(
  config: ConfigReader,
  layers: number,
  window: number | undefined,
  rule: (layer: number) => boolean,
): (number | undefined)[] {
  const types = config.texts('layer_types');
  if (types !== undefined && types.length !== layers)
    throw config.fault('layer_types', `${layers} entries`, types.length);
  return Array.from({ length: layers }, (_, layer) => {
    const type = types?.[layer];
    if (type !== undefined && type !== 'full_attention' && type !== 'sliding_attention') {
      throw config.fault('layer_types', 'full_attention or sliding_attention', type, 'is not implemented');
    }
    if (type === 'sliding_attention' && window === undefined)
      throw config.fault('layer_types', 'full_attention, as there is no window', type, 'has no sliding_window');
    const slides = type === undefined ? rule(layer) : type === 'sliding_attention';
    return slides ? window : undefined;
  });
}

/** The window of a family in which all layers slide or none. */
export function readOneWindow(config: ConfigReader, layers: number, whenAbsent?: number): (number | undefined)[] {
  const window = config.optionalNumber('sliding_window', whenAbsent);
  const windows = readWindows(config, layers, window, () => true);
  // transformers does not look at `layer_types` here; layers of several kinds would be another family.
  if (windows.some((own) => own !== window))
    throw config.fault('layer_types', 'sliding_attention for all layers', 'full_attention', 'is not implemented');
  return windows;
}
