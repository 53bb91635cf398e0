/** One sequence in the engine: what was asked, what is in its cache, what it has generated, what the scheduler sees. */
import { AppError } from '../errors.js';
import { frequenciesKey } from '../model/rope.js';
import type { RopeSpec } from '../model/spec.js';
import type { DecodeSlot } from './backend.js';
import type { EndEvent, RowRequest } from './messages.js';
import { PromptScorer } from './prompt-logprobs.js';
import type { WaitingRow } from './queue-order.js';
import type { RowAdapter } from './row-adapter.js';
import type { AdapterSpan } from './row-spans.js';
import { RowSampler } from './sampler.js';

/** Rows of at most this many tokens may be read together: for so few a step mostly reads weights. */
const JOINABLE_TOKENS = 32;

/** A row from its request to its last token. */
export class Row implements WaitingRow {
  readonly request: RowRequest;
  readonly sampler: RowSampler;
  /** Ascending by `from`; the first begins at 0. */
  readonly spans: readonly AdapterSpan[];
  readonly endIds: ReadonlySet<number>;
  /** Scores the prompt as it is read; absent = nobody asked. */
  readonly promptScorer: PromptScorer | undefined;
  /** Place in the order of arrival. */
  readonly arrival: number;
  /** Names the rotary tables that the row uses for its whole life. */
  readonly ropeKey: string;
  /** Tokens whose keys and values are cached. */
  length = 0;
  /** Prompt tokens that came from the prefix cache when the row was started first. */
  cachedTokens = 0;
  overtaken = 0;
  preemptions = 0;
  /** Its part of the time of the steps that it was in. */
  servedMs = 0;
  readonly #generated: number[] = [];
  #startedAt: number | undefined;
  #firstTokenAt: number | undefined;

  /** @param arrival ascending in the order in which rows came */
  constructor(request: RowRequest, spans: readonly AdapterSpan[], ropes: readonly RopeSpec[], arrival: number) {
    this.request = request;
    this.spans = spans;
    this.arrival = arrival;
    this.sampler = new RowSampler(request.sampling, request.promptIds);
    this.endIds = new Set(request.endIds);
    const { promptIds, promptLogprobs } = request;
    this.promptScorer = promptLogprobs === undefined ? undefined : new PromptScorer(promptIds, promptLogprobs);
    this.ropeKey = ropes.map((rope) => frequenciesKey(rope, this.totalTokens)).join(' ');
  }

  get id(): number {
    return this.request.id;
  }

  /** What the scheduler groups rows by. */
  get key(): string {
    return this.adapter.key;
  }

  /** What applies at the end of the row. */
  get adapter(): RowAdapter {
    return this.spans.at(-1)!.adapter;
  }

  get totalTokens(): number {
    return this.request.promptIds.length + this.request.maxNewTokens;
  }

  get priority(): number {
    return this.request.priority ?? 0;
  }

  get deadline(): number {
    return this.request.deadline ?? Number.POSITIVE_INFINITY;
  }

  /** Positions to fill before the row can decode: the prompt, and after a preemption what it had generated. */
  get tokens(): number {
    return this.request.promptIds.length + Math.max(0, this.#generated.length - 1);
  }

  get tokensLeft(): number {
    return this.tokens - this.length;
  }

  /** True when the row has told something of its prompt and cannot be read anew. */
  get fixed(): boolean {
    return this.scores && this.length > 0;
  }

  get joinable(): boolean {
    return !this.resumes && !this.scores && this.tokens <= JOINABLE_TOKENS && this.spanAt(0).until >= this.tokens;
  }

  /** True while every position of the prompt has to be computed, for its log-probabilities. */
  get scores(): boolean {
    return this.promptScorer !== undefined && !this.resumes;
  }

  /** True once a token was picked: what is read then only restores the cache. */
  get resumes(): boolean {
    return this.#generated.length > 0;
  }

  /** The newest token, not yet in the cache. */
  get lastToken(): number {
    return this.#generated.at(-1)!;
  }

  /** What a decode step is told of the row. */
  get decodeSlot(): DecodeSlot {
    const { lastToken: token, length, totalTokens: horizon } = this;
    return { token, length, adapter: this.spanAt(length).adapter, horizon };
  }

  /** Token at a position of prompt and generation. */
  idAt(position: number): number {
    const { promptIds } = this.request;
    return position < promptIds.length ? promptIds[position]! : this.#generated[position - promptIds.length]!;
  }

  /** Tokens at positions `from`..`until - 1`. */
  ids(from: number, until: number): number[] {
    return Array.from({ length: until - from }, (_, i) => this.idAt(from + i));
  }

  /** The adapter at a position, and the position where it changes next. */
  spanAt(position: number): { adapter: RowAdapter; until: number } {
    let index = 0;
    while (index + 1 < this.spans.length && this.spans[index + 1]!.from <= position) index += 1;
    return { adapter: this.spans[index]!.adapter, until: this.spans[index + 1]?.from ?? Number.POSITIVE_INFINITY };
  }

  /** Marks the first step that works on the row. */
  start(): void {
    this.#startedAt ??= clock();
  }

  /** Takes a picked token; returns why the row ends with it, if it does. */
  accept(token: number): 'end-id' | 'length' | undefined {
    this.#firstTokenAt ??= clock();
    this.#generated.push(token);
    if (this.endIds.has(token)) return 'end-id';
    return this.#generated.length >= this.request.maxNewTokens ? 'length' : undefined;
  }

  /** Its keys and values are gone; what was generated stays. */
  preempt(): void {
    this.length = 0;
    this.preemptions += 1;
  }

  /** Tells that its keys and values were lost: its last event, or undefined when it can be computed again. */
  lose(): EndEvent | undefined {
    if (!this.fixed) return undefined;
    return this.fail(
      new AppError('DEVICE_FAILED', 'the graphics device failed while the prompt was scored; try again'),
    );
  }

  /** The row's last event when it failed. */
  fail(error: unknown): EndEvent {
    return { ...this.end('error'), ...failure(error) };
  }

  /** The row's last event. */
  end(cause: EndEvent['cause']): EndEvent {
    const now = clock();
    const started = this.#startedAt ?? now;
    const first = this.#firstTokenAt ?? now;
    return {
      id: this.id,
      cause,
      cachedTokens: this.cachedTokens,
      queueMs: Math.max(0, started - this.request.submittedAt),
      prefillMs: first - started,
      decodeMs: now - first,
    };
  }
}

/** The only event of a row that was not taken. */
export function refusal(id: number, error: unknown): EndEvent {
  return { ...failure(error), id, cachedTokens: 0, queueMs: 0, prefillMs: 0, decodeMs: 0 };
}

function failure(error: unknown): Pick<EndEvent, 'cause' | 'message' | 'reason'> {
  const { message } = error as Error;
  return { cause: 'error', message, ...(error instanceof AppError && { reason: error.reason }) };
}

/** Milliseconds, comparable across threads of the process. */
export function clock(): number {
  return performance.timeOrigin + performance.now();
}
