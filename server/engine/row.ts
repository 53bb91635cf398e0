/** One sequence in the engine: what was asked, what is in its cache, what it has generated. */
import type { EndEvent, RowRequest } from './messages.js';
import type { RowAdapter } from './row-adapter.js';
import type { AdapterSpan } from './row-spans.js';
import { RowSampler } from './sampler.js';

export class Row {
  readonly request: RowRequest;
  readonly sampler: RowSampler;
  /** Ascending by `from`; the first begins at 0. */
  readonly spans: readonly AdapterSpan[];
  readonly endIds: ReadonlySet<number>;
  /** Tokens whose keys and values are cached. */
  length = 0;
  generated = 0;
  /** The newest token, not yet in the cache. */
  lastToken = -1;
  overtaken = 0;
  #startedAt: number | undefined;
  #firstTokenAt: number | undefined;

  constructor(request: RowRequest, spans: readonly AdapterSpan[]) {
    this.request = request;
    this.spans = spans;
    this.sampler = new RowSampler(request.sampling, request.promptIds);
    this.endIds = new Set(request.endIds);
  }

  get id(): number {
    return this.request.id;
  }

  /** What the scheduler groups rows by. */
  get key(): string {
    return this.spans.at(-1)!.adapter.key;
  }

  get totalTokens(): number {
    return this.request.promptIds.length + this.request.maxNewTokens;
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
    this.lastToken = token;
    this.generated += 1;
    if (this.endIds.has(token)) return 'end-id';
    return this.generated >= this.request.maxNewTokens ? 'length' : undefined;
  }

  /** The row's last event. */
  end(cause: EndEvent['cause'], message?: string): EndEvent {
    const now = clock();
    const started = this.#startedAt ?? now;
    const first = this.#firstTokenAt ?? now;
    return {
      id: this.id,
      cause,
      message,
      queueMs: Math.max(0, started - this.request.submittedAt),
      prefillMs: first - started,
      decodeMs: now - first,
    };
  }
}

/** Milliseconds, comparable across threads of the process. */
export function clock(): number {
  return performance.timeOrigin + performance.now();
}
