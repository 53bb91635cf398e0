/** The LMI schema of DJL Serving: `inputs`, `parameters`, `stream` in; `generated_text` and token lines out. */
import type { PredictEvent, PredictResult, Prompt, TokenInfo } from '../service/types.js';
import { isObject } from './body.js';
import { detailsJson, sequenceJson, streamDetailsJson, tokenJson } from './details.js';
import { type Ask, adapterPlace, type StreamRenderer } from './dialect.js';
import { booleanField } from './fields.js';
import { type RestParameters, readParameters } from './parameters.js';
import { promptPlace, readPrompts } from './prompts.js';

/** Fields of the body that are read elsewhere: adapters and model by the selection. */
const KNOWN = new Set(['inputs', 'parameters', 'stream', 'adapters', 'model']);

/** Reads a body that has `inputs`. */
export function readLmi(body: Record<string, unknown>): Ask {
  const { prompts, isList } = readPrompts(body.inputs, 'inputs');
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
    nameOf: (field) => nameOf(field, isList, isObject(body.parameters) ? body.parameters : {}),
    ignored: [...Object.keys(body).filter((key) => !KNOWN.has(key)), ...parameters.ignored],
    answer: (results) => {
      const list = prompts.map((_, index) =>
        answerJson(
          results.filter((result) => result.index === index),
          view,
        ),
      );
      return isList ? list : list[0];
    },
    renderer: (sse) => new LmiStream(view, sse),
  };
}

/** How the body calls a field that the service names. */
function nameOf(field: string, isList: boolean, parameters: Record<string, unknown>): string {
  const input = promptPlace(field, 'inputs', isList);
  if (input !== undefined) return input;
  const [, stop] = /^parameters\.stop\[(\d+)\]$/.exec(field) ?? [];
  if (stop !== undefined) {
    // The texts of stop_sequences come first, then those of stop.
    const { stop_sequences: first = [] } = parameters;
    const count = Array.isArray(first) ? first.length : 1;
    return Number(stop) < count ? `parameters.stop_sequences[${stop}]` : `parameters.stop[${Number(stop) - count}]`;
  }
  if (field === 'parameters.n' && parameters.n === undefined) return 'parameters.num_return_sequences';
  return adapterPlace(field, isList) ?? field;
}

interface View {
  readonly prompts: readonly Prompt[];
  readonly isList: boolean;
  readonly parameters: RestParameters;
}

/** The first sample is the answer; further ones stand in its details. */
function answerJson([first, ...others]: readonly PredictResult[], view: View): object {
  const { details, topTokens } = view.parameters;
  const { index, text } = first!;
  if (!details) return { generated_text: text };
  return {
    generated_text: text,
    details: {
      ...detailsJson(first!, view.prompts[index]!, topTokens),
      ...(others.length > 0 ? { best_of_sequences: others.map(sequenceJson) } : {}),
    },
  };
}

/** What a stream knows of one row. */
interface LineRow {
  readonly index: number;
  readonly sample: number;
  /** Its newest token, not given out yet. */
  held: TokenInfo | undefined;
  seen: number;
}

/**
 * Token lines. The last line of an answer carries its token and the whole text, so the newest token is held until it is
 * known whether another follows: that is known at once, because a step delivers a row's last token and its end together.
 */
class LmiStream implements StreamRenderer {
  readonly contentType: string;
  readonly #rows = new Map<string, LineRow>();

  constructor(
    readonly view: View,
    readonly sse: boolean,
  ) {
    this.contentType = sse ? 'text/event-stream; charset=utf-8' : 'application/jsonlines';
  }

  event(event: PredictEvent): string {
    return event.type === 'delta' ? this.#tokens(this.#row(event), event.tokens) : this.#final(event.result);
  }

  get holding(): boolean {
    return [...this.#rows.values()].some((row) => row.held !== undefined && !this.#surelyLast(row));
  }

  flush(): string {
    return [...this.#rows.values()].map((row) => (this.#surelyLast(row) ? '' : this.#giveOut(row))).join('');
  }

  end(): string {
    return '';
  }

  failure(told: object): string {
    return this.flush() + this.#line(told);
  }

  #row({ index, sample }: { readonly index: number; readonly sample: number }): LineRow {
    const key = `${index}/${sample}`;
    const row = this.#rows.get(key) ?? { index, sample, held: undefined, seen: 0 };
    this.#rows.set(key, row);
    return row;
  }

  #tokens(row: LineRow, tokens: readonly TokenInfo[]): string {
    let text = '';
    for (const token of tokens) {
      text += this.#giveOut(row);
      row.held = token;
      row.seen++;
    }
    return text;
  }

  #final(result: PredictResult): string {
    const row = this.#row(result);
    let text = this.#tokens(row, result.tokens.slice(row.seen));
    const last = row.held;
    row.held = undefined;
    text += this.#line({
      ...this.#placeFields(row),
      ...(last ? { token: tokenJson(last) } : {}),
      generated_text: result.text,
      ...(this.view.parameters.details ? { details: streamDetailsJson(result, this.view.prompts[row.index]!) } : {}),
    });
    return text;
  }

  #giveOut(row: LineRow): string {
    const token = row.held;
    if (!token) return '';
    row.held = undefined;
    return this.#line({ ...this.#placeFields(row), token: tokenJson(token) });
  }

  /** A token that is certainly the last one need not be given out before the end comes. */
  #surelyLast({ seen }: LineRow): boolean {
    return seen >= this.view.parameters.generation.maxNewTokens;
  }

  #placeFields({ index, sample }: LineRow): object {
    const several = (this.view.parameters.generation.n ?? 1) > 1;
    return { ...(this.view.isList ? { index } : {}), ...(several ? { sample } : {}) };
  }

  #line(value: object): string {
    const json = JSON.stringify(value);
    return this.sse ? `data: ${json}\n\n` : `${json}\n`;
  }
}
