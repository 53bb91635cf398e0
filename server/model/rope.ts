/**
 * Rotary position tables. Frequencies follow transformers' `modeling_rope_utils`: default, linear, dynamic (NTK), llama3,
 * yarn and longrope. A table is a list of inverse frequencies and a factor on cos and sin; positions come at run time.
 */
import type { ConfigReader } from './config-reader.js';
import type { RopeSpec } from './spec.js';

/** What the scaling rules need to know of the model. */
export interface RopeInput {
  readonly theta: number;
  /** Dimensions of a head that are rotated. */
  readonly rotaryDim: number;
  readonly contextLength: number;
  /** `rope_scaling` (transformers 4) or `rope_parameters` (transformers 5); undefined = plain. */
  readonly scaling: ConfigReader | undefined;
  /** `original_max_position_embeddings` of the config itself; it precedes the one in `scaling`. */
  readonly originalContextLength?: number | undefined;
  /** The rules of a family that has its own list, by the names that its configs use for them. */
  readonly rules?: Readonly<Record<string, RopeRule>> | undefined;
}

/** A rule by which frequencies follow from theta. */
export type RopeRule = 'default' | 'linear' | 'dynamic' | 'llama3' | 'yarn' | 'longrope';

const RULES: Readonly<Record<string, RopeRule>> = {
  default: 'default',
  linear: 'linear',
  dynamic: 'dynamic',
  llama3: 'llama3',
  yarn: 'yarn',
  longrope: 'longrope',
};

/** Fields of all rules: a rule leaves those of another alone, as transformers does. */
const FIELDS =
  'rope_type type factor low_freq_factor high_freq_factor original_max_position_embeddings attention_factor beta_fast ' +
  'beta_slow truncate mscale mscale_all_dim short_factor long_factor';

/** Builds one rotary table. Throws MODEL_INVALID for a rule that is not implemented. */
export function buildRope(input: RopeInput): RopeSpec {
  const { rotaryDim, scaling, theta, rules = RULES } = input;
  const plain = plainFrequencies(theta, rotaryDim);
  const table = (inverseFrequency: Float64Array): RopeSpec => ({ rotaryDim, inverseFrequency, attentionScale: 1 });
  if (scaling === undefined) return table(plain);
  for (const field of FIELDS.split(' ')) scaling.raw(field);
  const type = scaling.text('rope_type', scaling.text('type', 'default'));
  const rule = Object.hasOwn(rules, type) ? rules[type] : undefined;
  switch (rule) {
    case 'default':
      return table(plain);
    case 'linear': {
      const factor = scaling.positive('factor');
      return table(plain.map((f) => f / factor));
    }
    case 'dynamic':
      // transformers recomputes the table with every token beyond the trained context, which leaves the cached keys
      // behind. Here a row keeps one table for its whole life, that of the most tokens that it may come to hold.
      return {
        ...table(plain),
        beyond: { kind: 'dynamic', length: input.contextLength, theta, factor: scaling.positive('factor') },
      };
    case 'llama3':
      return table(llama3(input, plain, scaling));
    case 'yarn':
      return yarn(input, plain, scaling);
    case 'longrope':
      return longrope(input, scaling);
    default:
      throw scaling.fault('rope_type', Object.keys(rules).join(', '), type, 'is not implemented');
  }
}

/**
 * The inverse frequencies of a row.
 * @param horizon most tokens that the row may come to hold
 */
export function frequenciesFor({ inverseFrequency, rotaryDim, beyond }: RopeSpec, horizon: number): Float64Array {
  if (beyond === undefined || horizon <= beyond.length) return inverseFrequency;
  if (beyond.kind === 'table') return beyond.inverseFrequency;
  // Dynamic NTK: theta grows so that the slowest wave is stretched over the longer row.
  const stretch = (beyond.factor * horizon) / beyond.length - (beyond.factor - 1);
  return plainFrequencies(beyond.theta * stretch ** (rotaryDim / (rotaryDim - 2)), rotaryDim);
}

/** Names the frequencies of {@link frequenciesFor}: equal names mean equal frequencies. */
export function frequenciesKey({ beyond }: RopeSpec, horizon: number): string {
  if (beyond === undefined || horizon <= beyond.length) return 'own';
  return beyond.kind === 'table' ? 'beyond' : String(horizon);
}

/** Tokens that a model with this table can hold: dynamic NTK reaches past the context that the config names. */
export function reachOf({ beyond }: RopeSpec, contextLength: number): number {
  return beyond?.kind === 'dynamic'
    ? Math.max(contextLength, Math.floor(beyond.length * beyond.factor))
    : contextLength;
}

/** The context that the model was trained with before its frequencies were scaled. */
function originalLength(input: RopeInput, scaling: ConfigReader): number {
  return (
    input.originalContextLength ?? scaling.optionalNumber('original_max_position_embeddings') ?? input.contextLength
  );
}

function plainFrequencies(theta: number, rotaryDim: number): Float64Array {
  return Float64Array.from({ length: rotaryDim / 2 }, (_, i) => theta ** ((-2 * i) / rotaryDim));
}

/** Llama 3.1: long waves are slowed by `factor`, short ones kept, those between are blended. */
function llama3(input: RopeInput, plain: Float64Array, scaling: ConfigReader): Float64Array {
  const factor = scaling.positive('factor');
  const low = scaling.number('low_freq_factor');
  const high = scaling.number('high_freq_factor');
  const original = originalLength(input, scaling);
  return plain.map((frequency) => {
    const wavelength = (2 * Math.PI) / frequency;
    if (wavelength > original / low) return frequency / factor;
    if (wavelength < original / high) return frequency;
    const blend = (original / wavelength - low) / (high - low);
    return (1 - blend) * (frequency / factor) + blend * frequency;
  });
}

/** YaRN (arXiv 2309.00071): a ramp over the dimensions between interpolated and kept frequencies. */
function yarn(input: RopeInput, plain: Float64Array, scaling: ConfigReader): RopeSpec {
  const { rotaryDim, theta } = input;
  const original = originalLength(input, scaling);
  const factor = scaling.optionalNumber('factor') ?? input.contextLength / original;
  const betaFast = scaling.optionalNumber('beta_fast') || 32;
  const betaSlow = scaling.optionalNumber('beta_slow') || 1;
  const truncate = scaling.flag('truncate', true);
  const mscale = scaling.optionalNumber('mscale');
  const mscaleAll = scaling.optionalNumber('mscale_all_dim');
  const magnitude = (s: number, m = 1) => (s <= 1 ? 1 : 0.1 * m * Math.log(s) + 1);
  const attentionScale =
    scaling.optionalNumber('attention_factor') ??
    (mscale && mscaleAll ? magnitude(factor, mscale) / magnitude(factor, mscaleAll) : magnitude(factor));
  const dimOf = (rotations: number) =>
    (rotaryDim * Math.log(original / (rotations * 2 * Math.PI))) / (2 * Math.log(theta));
  let low = dimOf(betaFast);
  let high = dimOf(betaSlow);
  if (truncate) {
    low = Math.floor(low);
    high = Math.ceil(high);
  }
  low = Math.max(low, 0);
  high = Math.min(high, rotaryDim - 1);
  const span = high === low ? 0.001 : high - low;
  const inverseFrequency = plain.map((frequency, i) => {
    const ramp = Math.min(1, Math.max(0, (i - low) / span));
    return (frequency / factor) * ramp + frequency * (1 - ramp);
  });
  return { rotaryDim, inverseFrequency, attentionScale };
}

/** LongRoPE (Phi-3): a factor per dimension; the long set applies where the context exceeds the original one. */
function longrope(input: RopeInput, scaling: ConfigReader): RopeSpec {
  const { rotaryDim, theta } = input;
  const original = originalLength(input, scaling);
  const short = scaling.numbers('short_factor') ?? [];
  const long = scaling.numbers('long_factor') ?? [];
  const factor = scaling.optionalNumber('factor') ?? input.contextLength / original;
  const attentionScale =
    scaling.optionalNumber('attention_factor') ??
    (factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(original)));
  for (const [name, factors] of [
    ['short_factor', short],
    ['long_factor', long],
  ] as const) {
    if (factors.length !== rotaryDim / 2 || factors.some((f) => f <= 0))
      throw scaling.fault(name, `${rotaryDim / 2} numbers above 0`, factors);
  }
  const frequencies = (factors: readonly number[]) =>
    Float64Array.from(factors, (f, i) => 1 / (f * theta ** ((2 * i) / rotaryDim)));
  // transformers chooses by the sequence at hand. Keys cached under one set do not fit the other, so here a row keeps
  // one set for its whole life, by the most tokens that it may come to hold.
  return {
    rotaryDim,
    inverseFrequency: frequencies(short),
    attentionScale,
    beyond: { kind: 'table', length: original, inverseFrequency: frequencies(long) },
  };
}
