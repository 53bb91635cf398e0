/** Picks the next token of one row from its logits. */
import { drawKnown, weighsAll } from './known-weights.js';
import { drawFrom, filterLogits } from './logits-filter.js';
import { rawLogprobs, type TokenLogprob } from './logits-logprobs.js';
import { applyBias, applyPenalties, hasPenalties, TokenHistory } from './logits-penalties.js';
import { argmax, expectFinite } from './logits-select.js';
import type { SamplingOptions } from './messages.js';
import { uniformAt } from './random.js';

/** What is known of a token's logits before its sampler looks at them. */
export interface KnownOfLogits {
  /** Id of the largest one, the lowest on ties. */
  readonly largest?: number | undefined;
  /** ln(sum(exp(logits))). */
  readonly norm?: number | undefined;
  /** Of all tokens at the row's temperature, [vocab], for a row that {@link RowSampler.drawsAt} it. */
  readonly probabilities?: Float32Array | undefined;
}

/** Temperatures below this are no business of float32, in which the probabilities of all tokens are computed. */
const COLDEST = 0.01;

/** A picked token; the log-probabilities are there when the row asked for them. */
export interface Picked {
  readonly token: number;
  /** Natural log of the token's probability in the raw distribution (bias, penalties and temperature not applied). */
  readonly logprob?: number;
  /** The n most likely tokens of the raw distribution, best first; absent for n = 0. */
  readonly top?: readonly TokenLogprob[];
}

/**
 * The sampler of one row. Logits are processed in this order: logit bias, repetition penalty, frequency and
 * presence penalty, temperature, top-k, top-p, min-p, typical-p. Temperature 0 takes the largest penalised logit (the lowest id on ties). What is
 * picked depends on the logits, the options and the number of tokens picked before, and on nothing else: equal seeds
 * give equal tokens whatever else is in the batch.
 */
export class RowSampler {
  readonly #options: SamplingOptions;
  readonly #history: TokenHistory | undefined;
  #position = 0;

  /** @param promptIds what the repetition penalty looks at besides the picked tokens */
  constructor(options: SamplingOptions, promptIds: readonly number[]) {
    this.#options = options;
    this.#history = hasPenalties(options) ? new TokenHistory(promptIds) : undefined;
  }

  /** True where the token with the largest logit is picked and no other logit is asked for. */
  get takesLargest(): boolean {
    const { temperature, logitBias, logprobs = 0 } = this.#options;
    return temperature === 0 && this.#history === undefined && logitBias === undefined && logprobs === 0;
  }

  /**
   * Counts the token with the largest logit, of a sampler that {@link takesLargest}. Throws as {@link pick}.
   * @param logprob natural log of the token's probability
   */
  takeLargest(token: number, logit: number, logprob: number): Picked {
    expectFinite(logit);
    this.#position++;
    return this.#options.logprobs === undefined ? { token } : { token, logprob };
  }

  /** The temperature at which {@link pick} has use for the probabilities of all tokens; undefined = it has none. */
  get drawsAt(): number | undefined {
    const { temperature, logitBias } = this.#options;
    if (temperature < COLDEST || this.#history !== undefined || logitBias !== undefined) return undefined;
    return weighsAll(this.#options) ? temperature : undefined;
  }

  /**
   * Picks and counts the next token.
   * @param logits // [vocab], left as they are
   * @param known what is not known is computed where it is needed
   * @throws Error when the logits hold no finite maximum (NaN or infinity from the model)
   */
  pick(logits: Float32Array, known: KnownOfLogits = {}): Picked {
    const options = this.#options;
    let scores = logits;
    if (this.#history !== undefined || options.logitBias !== undefined) {
      scores = logits.slice();
      if (options.logitBias !== undefined) applyBias(scores, options.logitBias);
      if (this.#history !== undefined) applyPenalties(scores, options, this.#history);
    }
    // What is known is of the logits as they came.
    const token =
      options.temperature === 0
        ? largestOf(scores, scores === logits ? known.largest : undefined)
        : this.#draw(scores, known);
    this.#position++;
    this.#history?.add(token);
    if (options.logprobs === undefined) return { token };
    const { logprob, top } = rawLogprobs(logits, token, options.logprobs, known.norm);
    return options.logprobs > 0 ? { token, logprob, top } : { token, logprob };
  }

  #draw(scores: Float32Array, { probabilities, largest }: KnownOfLogits): number {
    const options = this.#options;
    const draw = uniformAt(options.seed, this.#position);
    if (probabilities === undefined) return drawFrom(filterLogits(scores, options), draw);
    const best = largestOf(scores, largest);
    // One logit of NaN leaves no probability.
    expectFinite(probabilities[best]!);
    return drawKnown(scores, probabilities, best, options, draw);
  }
}

/** Id of the largest score, which must be a finite one. */
function largestOf(scores: Float32Array, known: number | undefined): number {
  if (known === undefined) return argmax(scores);
  expectFinite(scores[known]!);
  return known;
}
