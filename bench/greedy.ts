import type { SamplingOptions } from '../server/engine/messages.js';

/** The likeliest token each time, nothing else asked. */
export const GREEDY: SamplingOptions = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  seed: 1,
  logprobs: undefined,
};
