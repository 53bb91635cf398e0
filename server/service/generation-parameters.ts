/** How to pick and when to stop. Absent fields take the defaults of `DEFAULT_PARAMETERS`. */
export interface GenerationParameters {
  /** Most tokens to generate (>= 1); Infinity = as many as the context and the memory hold behind the prompt. */
  readonly maxNewTokens: number;
  /** 0 = greedy (argmax). */
  readonly temperature: number;
  /** 0 = off. */
  readonly topK: number;
  /** 1 = off. */
  readonly topP: number;
  /** 0 = off. */
  readonly minP: number;
  /** 1 = off: keeps the tokens whose surprise is closest to the expected one, up to this much probability. */
  readonly typicalP: number;
  /** 1 = off; looks at prompt and generated ids. */
  readonly repetitionPenalty: number;
  /** 0 = off; generated ids only. */
  readonly presencePenalty: number;
  /** 0 = off; generated ids only. */
  readonly frequencyPenalty: number;
  /** Added to the logits of single ids, before everything else: -100 to 100. */
  readonly logitBias?: ReadonlyMap<number, number> | undefined;
  /** Seed of the random numbers of the first sample, the next sample has the next seed; absent = a random one. Equal seeds give equal tokens whatever the batch. */
  readonly seed?: number | undefined;
  /** Texts that end the generation; they are not part of the answer. */
  readonly stop: readonly string[];
  /** Ids that end the generation, besides the model's end-of-sequence ids. */
  readonly stopTokenIds: readonly number[];
  /** True: end-of-sequence ids neither end the generation nor are hidden. */
  readonly ignoreEos: boolean;
  /** Absent = none; n >= 0: log-probability of each generated token and of the n best alternatives. */
  readonly logprobs?: number | undefined;
  /**
   * Absent = none; n >= 0: log-probability of each prompt token given those before it, and of the n best alternatives.
   */
  readonly promptLogprobs?: number | undefined;
  /** Absent = the whole prompt; else only its last tokens are used, at most this many. */
  readonly truncate?: number | undefined;
  /** Answers to each input (>= 1). */
  readonly n: number;
  /** Answers that are drawn, of which the `n` most probable per token are returned; absent = `n`. Not for streams. */
  readonly bestOf?: number | undefined;
  /** True: the answer's text begins with the prompt. */
  readonly returnFullText: boolean;
}
