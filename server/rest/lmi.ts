/** The LMI schema of DJL Serving: `inputs`, `parameters`, `stream` in; `generated_text` and token lines out. */
import type { AppError } from '../errors.js';
import type { PredictEvent, PredictResult, Prompt, TokenInfo } from '../service/types.js';
import { detailsJson, streamDetailsJson, tokenJson } from './details.js';
import type { Ask, StreamRenderer } from './dialect.js';
import { booleanField, invalidField, kindOf } from './fields.js';
import { type RestParameters, readParameters } from './parameters.js';

/** Fields of the body that are read elsewhere: adapters and model by the selection. */
const KNOWN = new Set(['inputs', 'parameters', 'stream', 'adapters', 'model']);

/** Reads a body that has `inputs`. */
export function readLmi(body: Record<string, unknown>): Ask {
  const { prompts, isList } = readInputs(body.inputs);
  const parameters = readParameters(body.parameters);
  const stream = booleanField(body.stream, 'stream') ?? false;
  // Lines of a stream show the log-probability of their token.
  const generation = stream ? { ...parameters.generation, logprobs: parameters.generation.logprobs ?? 0 } : undefined;
  const view: View = { prompts, isList, parameters };
  return {
    prompts,
    isList,
    parameters: generation ?? parameters.generation,
    stream,
    ignored: [...Object.keys(body).filter((key) => !KNOWN.has(key)), ...parameters.ignored],
    answer: (results) => {
      const list = results.map((result) => answerJson(result, view));
      return isList ? list : list[0];
    },
    renderer: (sse) => new LmiStream(view, sse),
  };
}

interface View {
  readonly prompts: readonly Prompt[];
  readonly isList: boolean;
  readonly parameters: RestParameters;
}

/** `inputs`: a text, a list of token ids, or a list of either. */
function readInputs(inputs: unknown): { prompts: readonly Prompt[]; isList: boolean } {
  const wanted = 'must be a text, or a list of texts';
  if (typeof inputs === 'string') return { prompts: [{ kind: 'text', text: inputs }], isList: false };
  if (!Array.isArray(inputs)) throw invalidField('inputs', `${wanted}, not ${kindOf(inputs)}`);
  if (inputs.length === 0) throw invalidField('inputs', 'is an empty list; give at least one text');
  if (isTokenIds(inputs)) return { prompts: [{ kind: 'tokens', tokenIds: inputs }], isList: false };
  const prompts = inputs.map((entry: unknown, index): Prompt => {
    if (typeof entry === 'string') return { kind: 'text', text: entry };
    if (isTokenIds(entry)) return { kind: 'tokens', tokenIds: entry };
    throw invalidField(`inputs[${index}]`, `must be a text or a list of token ids, not ${kindOf(entry)}`);
  });
  return { prompts, isList: true };
}

function isTokenIds(value: unknown): value is number[] {
  return Array.isArray(value) && value.length > 0 && value.every((entry) => Number.isSafeInteger(entry) && entry >= 0);
}

function answerJson(result: PredictResult, view: View): object {
  const { details, topTokens } = view.parameters;
  return {
    generated_text: result.text,
    ...(details ? { details: detailsJson(result, view.prompts[result.index]!, topTokens) } : {}),
  };
}

/**
 * Token lines. The last line of an input carries its token and the whole text, so the newest token is held until it is
 * known whether another follows: that is known at once, because a step delivers a row's last token and its end together.
 */
class LmiStream implements StreamRenderer {
  readonly contentType: string;
  /** Newest token of each input, not given out yet. */
  readonly #held = new Map<number, TokenInfo>();
  readonly #seen: number[];

  constructor(
    readonly view: View,
    readonly sse: boolean,
  ) {
    this.contentType = sse ? 'text/event-stream; charset=utf-8' : 'application/jsonlines';
    this.#seen = view.prompts.map(() => 0);
  }

  event(event: PredictEvent): string {
    return event.type === 'delta' ? this.#tokens(event.index, event.tokens) : this.#final(event.result);
  }

  get holding(): boolean {
    return [...this.#held.keys()].some((index) => !this.#surelyLast(index));
  }

  flush(): string {
    return [...this.#held.keys()].map((index) => (this.#surelyLast(index) ? '' : this.#giveOut(index))).join('');
  }

  end(): string {
    return '';
  }

  failure(error: AppError): string {
    return this.flush() + this.#line({ code: error.spec.http, error: error.message, reason: error.reason });
  }

  #tokens(index: number, tokens: readonly TokenInfo[]): string {
    let text = '';
    for (const token of tokens) {
      text += this.#giveOut(index);
      this.#held.set(index, token);
      this.#seen[index]!++;
    }
    return text;
  }

  #final(result: PredictResult): string {
    const { index } = result;
    let text = this.#tokens(index, result.tokens.slice(this.#seen[index]!));
    const last = this.#held.get(index);
    this.#held.delete(index);
    text += this.#line({
      ...this.#indexField(index),
      ...(last ? { token: tokenJson(last) } : {}),
      generated_text: result.text,
      ...(this.view.parameters.details ? { details: streamDetailsJson(result, this.view.prompts[index]!) } : {}),
    });
    return text;
  }

  #giveOut(index: number): string {
    const token = this.#held.get(index);
    if (!token) return '';
    this.#held.delete(index);
    return this.#line({ ...this.#indexField(index), token: tokenJson(token) });
  }

  /** A token that is certainly the last one need not be given out before the end comes. */
  #surelyLast(index: number): boolean {
    return this.#seen[index]! >= this.view.parameters.generation.maxNewTokens;
  }

  #indexField(index: number): object {
    return this.view.isList ? { index } : {};
  }

  #line(value: object): string {
    const json = JSON.stringify(value);
    return this.sse ? `data: ${json}\n\n` : `${json}\n`;
  }
}
