/** Defaults, merging and ranges of the generation parameters. */
import type { FieldViolation } from '../errors.js';
import type { GenerationParameters } from './types.js';

/** What holds where neither the input nor the request says otherwise. */
export const DEFAULT_PARAMETERS: GenerationParameters = {
  maxNewTokens: 30,
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  typicalP: 1,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  stop: [],
  stopTokenIds: [],
  ignoreEos: false,
  n: 1,
  returnFullText: false,
};

/** Most alternatives that an input may ask log-probabilities of. */
export const MAX_LOGPROBS = 256;
/** Most alternatives that an input may ask of each prompt token. */
const MAX_PROMPT_LOGPROBS = 32;
/** Most answers to one input. */
const MAX_SAMPLES = 128;
/** Most ids with a bias. */
const MAX_LOGIT_BIASES = 1024;
/** The largest bias to either side. */
const MAX_LOGIT_BIAS = 100;
const MAX_STOPS = 64;
const MAX_STOP_TOKEN_IDS = 1024;

/** Later sources override earlier ones field by field; a field that is undefined overrides nothing. */
export function mergeParameters(
  ...sources: readonly (Partial<GenerationParameters> | undefined)[]
): GenerationParameters {
  const merged: Record<string, unknown> = { ...DEFAULT_PARAMETERS };
  for (const source of sources) {
    for (const [name, value] of Object.entries(source ?? {})) if (value !== undefined) merged[name] = value;
  }
  return merged as unknown as GenerationParameters;
}

interface Rule {
  readonly field: keyof GenerationParameters;
  /** Name of the field as requests spell it. */
  readonly wire: string;
  readonly holds: (value: number) => boolean;
  readonly range: string;
}

const integer = (low: number, high: number) => (value: number) =>
  Number.isInteger(value) && value >= low && value <= high;
const UINT32 = 0xffff_ffff;

const RULES: readonly Rule[] = [
  {
    field: 'maxNewTokens',
    wire: 'max_new_tokens',
    holds: (value) => value === Number.POSITIVE_INFINITY || integer(1, UINT32)(value),
    range: `an integer between 1 and ${UINT32}`,
  },
  { field: 'temperature', wire: 'temperature', holds: (v) => Number.isFinite(v) && v >= 0, range: 'at least 0' },
  { field: 'topK', wire: 'top_k', holds: integer(0, UINT32), range: `an integer between 0 (off) and ${UINT32}` },
  { field: 'topP', wire: 'top_p', holds: (v) => v > 0 && v <= 1, range: 'above 0 and at most 1' },
  { field: 'minP', wire: 'min_p', holds: (v) => v >= 0 && v <= 1, range: 'between 0 and 1' },
  { field: 'typicalP', wire: 'typical_p', holds: (v) => v > 0 && v <= 1, range: 'above 0 and at most 1 (1 = off)' },
  {
    field: 'repetitionPenalty',
    wire: 'repetition_penalty',
    holds: (v) => Number.isFinite(v) && v > 0,
    range: 'above 0 (1 = off)',
  },
  { field: 'presencePenalty', wire: 'presence_penalty', holds: Number.isFinite, range: 'a finite number' },
  { field: 'frequencyPenalty', wire: 'frequency_penalty', holds: Number.isFinite, range: 'a finite number' },
  { field: 'seed', wire: 'seed', holds: integer(0, UINT32), range: 'an integer between 0 and 4294967295' },
  {
    field: 'logprobs',
    wire: 'logprobs',
    holds: integer(0, MAX_LOGPROBS),
    range: `an integer between 0 and ${MAX_LOGPROBS}`,
  },
  {
    field: 'promptLogprobs',
    wire: 'prompt_logprobs',
    holds: integer(0, MAX_PROMPT_LOGPROBS),
    range: `an integer between 0 and ${MAX_PROMPT_LOGPROBS}`,
  },
  { field: 'truncate', wire: 'truncate', holds: integer(1, UINT32), range: `an integer between 1 and ${UINT32}` },
  { field: 'n', wire: 'n', holds: integer(1, MAX_SAMPLES), range: `an integer between 1 and ${MAX_SAMPLES}` },
  {
    field: 'bestOf',
    wire: 'best_of',
    holds: integer(1, MAX_SAMPLES),
    range: `an integer between 1 and ${MAX_SAMPLES}`,
  },
];

/**
 * Every broken rule of merged parameters.
 * @param path of the parameters in the request, for example `inputs[0].parameters`
 * @param vocabSize bound of the stop token ids
 */
export function parameterViolations(
  parameters: GenerationParameters,
  path: string,
  vocabSize: number,
): FieldViolation[] {
  const violations: FieldViolation[] = [];
  const add = (field: string, description: string): void => {
    violations.push({ field: `${path}.${field}`, description });
  };
  for (const { field, wire, holds, range } of RULES) {
    const value = parameters[field] as number | undefined;
    if (value !== undefined && !holds(value)) add(wire, `must be ${range}, but is ${value}`);
  }
  const { stop, stopTokenIds, logitBias, n, bestOf } = parameters;
  if (bestOf !== undefined && bestOf < n) add('best_of', `must be at least n (${n}), but is ${bestOf}`);
  if (logitBias !== undefined) {
    if (logitBias.size > MAX_LOGIT_BIASES) {
      add('logit_bias', `may hold at most ${MAX_LOGIT_BIASES} ids, but holds ${logitBias.size}`);
    }
    for (const [id, bias] of logitBias) {
      if (!integer(0, vocabSize - 1)(id)) {
        add(`logit_bias[${id}]`, `must be for an id between 0 and ${vocabSize - 1}`);
      }
      if (!(Math.abs(bias) <= MAX_LOGIT_BIAS)) {
        add(`logit_bias[${id}]`, `must be between -${MAX_LOGIT_BIAS} and ${MAX_LOGIT_BIAS}, but is ${bias}`);
      }
    }
  }
  if (stop.length > MAX_STOPS) add('stop', `may hold at most ${MAX_STOPS} strings, but holds ${stop.length}`);
  for (const [index, text] of stop.entries()) {
    if (text === '') add(`stop[${index}]`, 'must not be empty');
    if (/\p{Surrogate}/u.test(text)) add(`stop[${index}]`, 'must be Unicode text, but holds half of a surrogate pair');
  }
  if (stopTokenIds.length > MAX_STOP_TOKEN_IDS) {
    add('stop_token_ids', `may hold at most ${MAX_STOP_TOKEN_IDS} ids, but holds ${stopTokenIds.length}`);
  }
  for (const [index, id] of stopTokenIds.entries()) {
    if (!integer(0, vocabSize - 1)(id)) {
      add(`stop_token_ids[${index}]`, `must be an id between 0 and ${vocabSize - 1}, but is ${id}`);
    }
  }
  return violations;
}
