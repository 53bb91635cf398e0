/** Generation parameters under the names of DJL Serving's LMI schema, with its defaults where they are sane. */
import { AppError } from '../errors.js';
import { MAX_LOGPROBS } from '../service/parameters.js';
import type { GenerationParameters } from '../service/types.js';
import { isObject } from './body.js';
import {
  biasField,
  booleanField,
  integerField,
  invalidField,
  kindOf,
  numberField,
  textsField,
  tokenIdsField,
} from './fields.js';

/** DJL's LMI default of `max_new_tokens`. */
const DEFAULT_MAX_NEW_TOKENS = 30;

/** What `parameters` asks for. */
export interface RestParameters {
  readonly generation: Partial<GenerationParameters> & { readonly maxNewTokens: number };
  /** True: answers have `details`, because they or something that is shown in them was asked for. */
  readonly details: boolean;
  /** Alternatives wanted per token (`top_n_tokens`); 0 = none. */
  readonly topTokens: number;
  /** Names that mean nothing here; they are told in the header `x-loramux-ignored`. */
  readonly ignored: readonly string[];
}

/** @throws INVALID_REQUEST naming the parameter; ranges are the service's to check */
export function readParameters(value: unknown): RestParameters {
  if (value !== undefined && value !== null && !isObject(value)) {
    throw invalidField('parameters', `must be an object, not ${kindOf(value)}`);
  }
  const left = new Map(Object.entries(value ?? {}));
  const take = <T>(read: (given: unknown, field: string) => T | undefined, ...names: string[]): T | undefined => {
    let found: T | undefined;
    for (const name of names) {
      if (!left.has(name)) continue;
      const value = read(left.get(name), `parameters.${name}`);
      if (found !== undefined && value !== undefined && value !== found)
        throw invalidField(`parameters.${name}`, `must be what ${names[0]} is, which is another name of it`);
      found ??= value;
      left.delete(name);
    }
    return found;
  };
  const asked = take(booleanField, 'details') ?? false;
  const topTokens = take(topTokensField, 'top_n_tokens') ?? 0;
  const logprobs = take(logprobsField, 'logprobs');
  const stop = [...(take(textsField, 'stop_sequences') ?? []), ...(take(textsField, 'stop') ?? [])];
  const topK = take(integerField, 'top_k');
  const beams = take(integerField, 'num_beams');
  if (beams !== undefined && beams !== 1) {
    throw new AppError('UNIMPLEMENTED', 'parameters.num_beams must be 1: beam search is not offered; best_of is');
  }
  const n = take(integerField, 'n', 'num_return_sequences');
  const bestOf = take(integerField, 'best_of');
  const promptDetails = take(booleanField, 'decoder_input_details') ?? false;
  const promptLogprobs = take(logprobsField, 'prompt_logprobs') ?? (promptDetails ? 0 : undefined);
  // Further answers and the prompt's tokens have no other place.
  const details = asked || (bestOf ?? n ?? 1) > 1 || promptLogprobs !== undefined;
  const generation = {
    maxNewTokens: take(integerField, 'max_new_tokens') ?? DEFAULT_MAX_NEW_TOKENS,
    temperature: temperatureOf(take(booleanField, 'do_sample'), take(numberField, 'temperature')),
    topK: topK === -1 ? 0 : topK,
    topP: take(numberField, 'top_p'),
    minP: take(numberField, 'min_p'),
    typicalP: take(numberField, 'typical_p'),
    repetitionPenalty: take(numberField, 'repetition_penalty'),
    presencePenalty: take(numberField, 'presence_penalty'),
    frequencyPenalty: take(numberField, 'frequency_penalty'),
    logitBias: take(biasField, 'logit_bias'),
    seed: take(integerField, 'seed'),
    stop: stop.length > 0 ? stop : undefined,
    stopTokenIds: take(tokenIdsField, 'stop_token_ids'),
    ignoreEos: take(booleanField, 'ignore_eos_token', 'ignore_eos'),
    returnFullText: take(booleanField, 'return_full_text'),
    truncate: take(integerField, 'truncate'),
    n,
    bestOf,
    promptLogprobs,
    // Details hold the log-probability of each token, so they ask for it.
    logprobs: details || topTokens > 0 ? Math.max(logprobs ?? 0, topTokens) : logprobs,
  };
  return { generation: withoutUndefined(generation), details, topTokens, ignored: [...left.keys()] };
}

/** Greedy unless asked otherwise: `do_sample`, or a temperature without `do_sample: false`. */
function temperatureOf(doSample: boolean | undefined, temperature: number | undefined): number {
  if (doSample === false) return 0;
  return temperature ?? (doSample ? 1 : 0);
}

/** `logprobs`, `prompt_logprobs`: a number of alternatives, or true for the chosen token's alone. */
function logprobsField(value: unknown, field: string): number | undefined {
  if (value === true) return 0;
  if (value === false) return undefined;
  return integerField(value, field);
}

/** `top_n_tokens`, which is as bounded as the log-probabilities that it asks for. */
function topTokensField(value: unknown, field: string): number | undefined {
  const count = integerField(value, field);
  if (count === undefined || (count >= 0 && count <= MAX_LOGPROBS)) return count;
  throw invalidField(field, `must be an integer between 0 and ${MAX_LOGPROBS}, but is ${count}`);
}

/** Leaves out what was not given, so that the service's defaults apply. */
function withoutUndefined<T extends object>(fields: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as never;
}
