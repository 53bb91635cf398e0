/** The answer of one row as it grows: takes the engine's events, gives out whole tokens and the result. */
import type { EndEvent, PromptEvent, TokenEvent } from '../engine/messages.js';
import { type Released, TextStream } from '../text/text-stream.js';
import { tokenText } from '../text/token-text.js';
import { drawnSamples } from './best-of.js';
import type { PlannedRow } from './plan-rows.js';
import type { AdapterLease, LoadedModel } from './ports.js';
import { promptTokens } from './prompt-tokens.js';
import type { FinishReason, PredictResult, TokenInfo } from './types.js';

/** Collects one row's tokens. */
export class RowAnswer {
  /** Ids that end the row in the engine. */
  readonly endIds: readonly number[];
  /** What to ask of the engine: the best of several samples is found by log-probabilities. */
  readonly logprobs: number | undefined;
  readonly #row: PlannedRow;
  readonly #model: LoadedModel;
  readonly #stream: TextStream;
  readonly #tokens: TokenInfo[] = [];
  /** Engine events of the tokens that the text stream has not released yet. */
  readonly #events: TokenEvent[] = [];
  readonly #scores: PromptEvent[] = [];
  #logprobSum = 0;
  #text: string;
  #finish: FinishReason | undefined;
  #stop: string | undefined;

  constructor(row: PlannedRow, model: LoadedModel) {
    const { stop, stopTokenIds, ignoreEos, returnFullText, logprobs, n } = row.parameters;
    this.logprobs = logprobs ?? (drawnSamples(row.parameters) > n ? 0 : undefined);
    this.#row = row;
    this.#model = model;
    this.#text = row.promptText;
    this.endIds = [...new Set([...(ignoreEos ? [] : model.eosIds), ...stopTokenIds])];
    this.#stream = new TextStream(model.tokenizer, stop, { skipSpecialTokens: true, continuation: returnFullText });
  }

  /** True until the first token came. */
  get untouched(): boolean {
    return this.#tokens.length === 0 && this.#events.length === 0;
  }

  /** What ended the row; undefined while it goes on, and where it ended without an answer. */
  get finishReason(): FinishReason | undefined {
    return this.#finish;
  }

  /** True once the text has met a stop string or an end id: whatever the engine still sends is dropped. */
  get complete(): boolean {
    return this.#finish !== undefined;
  }

  /** True once a stop string ended the text: the engine knows nothing of it and must be told. */
  get stopped(): boolean {
    return this.#stop !== undefined;
  }

  /** Mean log-probability of the tokens; -Infinity without any. Means something only where `logprobs` is there. */
  get meanLogprob(): number {
    return this.#tokens.length === 0 ? Number.NEGATIVE_INFINITY : this.#logprobSum / this.#tokens.length;
  }

  /** The tokens of the prompt with the log-probabilities that came. */
  promptTokens(): readonly TokenInfo[] {
    return promptTokens(this.#row.promptIds, this.#scores, this.#model.tokenizer);
  }

  /** Takes log-probabilities of prompt tokens. */
  scorePrompt(event: PromptEvent): void {
    this.#scores.push(event);
  }

  /** Takes a token; returns those that became final. */
  push(event: TokenEvent): readonly TokenInfo[] {
    if (this.complete) return [];
    this.#events.push(event);
    if (!this.endIds.includes(event.token)) return this.#accept(this.#stream.push(event.token));
    const tokens = this.#accept(this.#stream.end(event.token));
    const { ignoreEos } = this.#row.parameters;
    this.#finish ??= !ignoreEos && this.#model.eosIds.includes(event.token) ? 'eos' : 'stop';
    return tokens;
  }

  /** The row came to its end; returns the tokens that waited. */
  end(): readonly TokenInfo[] {
    if (this.complete) return [];
    const tokens = this.#accept(this.#stream.end());
    this.#finish ??= 'length';
    return tokens;
  }

  /** The whole answer, once `end` was called. */
  result(end: EndEvent, leases: readonly AdapterLease[]): PredictResult {
    const { info } = this.#model;
    return {
      index: this.#row.index,
      sample: this.#row.sample,
      text: this.#text,
      tokens: this.#tokens,
      ...(this.#row.parameters.promptLogprobs !== undefined && { promptTokens: this.promptTokens() }),
      finishReason: this.#finish!,
      ...(this.#stop !== undefined && { stopString: this.#stop }),
      usage: {
        promptTokens: this.#row.promptIds.length,
        completionTokens: this.#tokens.length,
        cachedTokens: end.cachedTokens,
      },
      timings: { queueMs: end.queueMs, prefillMs: end.prefillMs, decodeMs: end.decodeMs },
      receipt: {
        model: info.name,
        baseFingerprint: info.fingerprint,
        adapters: leases.map(({ name, digest, weight, resolved }) => ({
          ...{ name, digest, weight },
          ...(resolved !== undefined && { resolved }),
        })),
      },
      seed: this.#row.seed,
    };
  }

  #accept({ pieces, stop }: Released): readonly TokenInfo[] {
    const asked = this.#row.parameters.logprobs !== undefined;
    const tokens = pieces.map(({ id, text }): TokenInfo => {
      const { logprob, top } = this.#events.shift()!;
      this.#logprobSum += logprob ?? 0;
      return {
        id,
        text,
        ...(asked && logprob !== undefined && { logprob }),
        ...(top !== undefined && {
          top: top.map((other) => ({
            id: other.id,
            text: tokenText(this.#model.tokenizer, other.id),
            logprob: other.logprob,
          })),
        }),
        special: this.#model.tokenizer.isSpecial(id),
      };
    });
    for (const token of tokens) {
      this.#tokens.push(token);
      this.#text += token.text;
    }
    if (stop !== undefined) {
      this.#stop = stop;
      this.#finish = 'stop';
    }
    return tokens;
  }
}
