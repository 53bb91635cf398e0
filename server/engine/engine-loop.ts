/**
 * The engine proper: rows come in, steps run, tokens go out. It lives in the worker, but knows nothing of threads: tests
 * drive it directly. One `step()` at a time; what a step produced is returned in one piece.
 */
import type { BoundAdapter } from '../adapters/types.js';
import type { RowStore, StepBackend } from './backend.js';
import { DecodeBatch } from './decode-batch.js';
import type { EndEvent, EngineStats, RowRequest, TokenEvent } from './messages.js';
import { Row } from './row.js';
import { combine, type RowAdapter, selectionKey } from './row-adapter.js';
import { type AdapterSpan, activationPoint, spansOf } from './row-spans.js';
import { decide, type SchedulerLimits } from './scheduler.js';

/** What one step did. */
export interface StepOutput {
  readonly tokens: TokenEvent[];
  readonly ends: EndEvent[];
}

export class EngineLoop {
  readonly #backend: StepBackend;
  readonly #limits: SchedulerLimits;
  readonly #adapters = new Map<string, BoundAdapter>();
  /** Combined selections that started or waiting rows use, with the number of those rows. */
  readonly #selections = new Map<string, { adapter: RowAdapter; rows: number }>();
  #waiting: Row[] = [];
  #prefilling: { row: Row; store: RowStore } | undefined;
  readonly #batch: DecodeBatch;
  readonly #cancelled = new Set<number>();
  #lastWasPrefill = false;
  readonly #counts = { prefillSteps: 0, decodeSteps: 0, prefillTokens: 0, decodeTokens: 0, stepMs: 0 };

  constructor(backend: StepBackend, limits: SchedulerLimits) {
    this.#backend = backend;
    this.#limits = limits;
    this.#batch = new DecodeBatch(backend);
  }

  /** True while any row waits or runs. */
  get busy(): boolean {
    return this.#waiting.length > 0 || this.#prefilling !== undefined || this.#batch.rows.length > 0;
  }

  /** Takes a loaded adapter. Throws when the backend cannot apply it. */
  async load(adapter: BoundAdapter): Promise<void> {
    await this.#backend.load(adapter);
    this.#adapters.set(adapter.digest, adapter);
  }

  /** Forgets an adapter. A row that still uses it keeps its weights alive until it ends. */
  unload(digest: string): void {
    this.#adapters.delete(digest);
    this.#backend.unload(digest);
  }

  /** Enqueues a row. A row that names an adapter that is not loaded ends with an error: never the base instead. */
  submit(request: RowRequest): EndEvent | undefined {
    try {
      this.#waiting.push(new Row(request, this.#spans(request)));
      return undefined;
    } catch (error) {
      return {
        id: request.id,
        cause: 'error',
        message: (error as Error).message,
        queueMs: 0,
        prefillMs: 0,
        decodeMs: 0,
      };
    }
  }

  /** Ends rows before the next step. */
  cancel(ids: readonly number[]): void {
    for (const id of ids) this.#cancelled.add(id);
  }

  /** Runs one step, if there is anything to do. */
  async step(): Promise<StepOutput> {
    const output: StepOutput = { tokens: [], ends: [] };
    this.#applyCancels(output);
    const start = performance.now();
    const decision = decide(
      {
        waiting: this.#waiting,
        prefilling: this.#prefilling && {
          ...fields(this.#prefilling.row),
          tokensLeft: this.#tokensLeft(this.#prefilling.row),
        },
        running: this.#batch.rows,
        lastWasPrefill: this.#lastWasPrefill,
      },
      this.#limits,
    );
    if (decision.kind === 'start') {
      this.#start(decision.id);
      await this.#prefill(this.#limits.prefillChunk, output);
    } else if (decision.kind === 'prefill') {
      await this.#prefill(decision.tokens, output);
    } else if (decision.kind === 'decode') {
      await this.#decode(output);
    }
    this.#lastWasPrefill = decision.kind === 'start' || decision.kind === 'prefill';
    this.#counts.stepMs += performance.now() - start;
    return output;
  }

  stats(): EngineStats {
    const { stepMs, ...counts } = this.#counts;
    return {
      ...counts,
      runningRows: this.#started().length,
      waitingRows: this.#waiting.length,
      kvBytes: this.#batch.bytes + (this.#prefilling?.store.bytes ?? 0),
      adaptersLoaded: this.#adapters.size,
      adapterBytes: [...this.#adapters.values()].reduce((sum, { bytes }) => sum + bytes, 0),
      runMs: this.#backend.runMs,
      overheadMs: stepMs - this.#backend.runMs,
    };
  }

  #started(): Row[] {
    return this.#prefilling === undefined ? this.#batch.rows : [...this.#batch.rows, this.#prefilling.row];
  }

  #tokensLeft(row: Row): number {
    return row.request.promptIds.length - row.length;
  }

  #start(id: number): void {
    const at = this.#waiting.findIndex((row) => row.id === id);
    const [row] = this.#waiting.splice(at, 1);
    for (const passed of this.#waiting.slice(0, at)) passed.overtaken += 1;
    this.#prefilling = { row: row!, store: this.#backend.createStore(1, row!.request.promptIds.length) };
    row!.start();
  }

  /** Runs the next chunk of the row being prefilled; with its last one the row gets its first token and joins the batch. */
  async #prefill(tokens: number, output: StepOutput): Promise<void> {
    const { row, store } = this.#prefilling!;
    const { promptIds } = row.request;
    // A chunk never crosses the point where an activated adapter begins.
    const { adapter, until } = row.spanAt(row.length);
    const end = Math.min(row.length + tokens, promptIds.length, until);
    const ids = promptIds.slice(row.length, end);
    const last = end === promptIds.length;
    try {
      const logits = await this.#backend.prefill(
        ids,
        row.length,
        store,
        adapter,
        last ? [ids.length - 1] : [],
        row.totalTokens,
      );
      row.length = end;
      this.#counts.prefillSteps += 1;
      this.#counts.prefillTokens += ids.length;
      if (!last) return;
      this.#prefilling = undefined;
      if (this.#pick(row, logits, output)) this.#batch.add(row, store);
      store.release();
    } catch (error) {
      this.#prefilling = undefined;
      store.release();
      this.#finish(row, row.end('error', (error as Error).message), output);
    }
  }

  async #decode(output: StepOutput): Promise<void> {
    if (this.#waiting.length === 0) this.#batch.compact();
    const { slots, store, rows } = this.#batch;
    let logits: Float32Array;
    try {
      logits = await this.#backend.decode(
        slots.map(
          (row) =>
            row && {
              token: row.lastToken,
              length: row.length,
              adapter: row.spanAt(row.length).adapter,
              horizon: row.totalTokens,
            },
        ),
        store,
      );
    } catch (error) {
      for (const row of rows) {
        this.#batch.remove(row);
        this.#finish(row, row.end('error', (error as Error).message), output);
      }
      return;
    }
    this.#counts.decodeSteps += 1;
    this.#counts.decodeTokens += rows.length;
    const { vocabSize } = this.#backend.spec;
    for (const [slot, row] of [...slots.entries()]) {
      if (row === undefined) continue;
      row.length += 1;
      if (!this.#pick(row, logits.subarray(slot * vocabSize, (slot + 1) * vocabSize), output)) this.#batch.remove(row);
    }
  }

  /** Samples the row's next token; false when the row has ended with it. */
  #pick(row: Row, logits: Float32Array, output: StepOutput): boolean {
    let cause: EndEvent['cause'] | undefined;
    let message: string | undefined;
    try {
      const picked = row.sampler.pick(logits);
      cause = row.accept(picked.token);
      output.tokens.push({ id: row.id, ...picked });
    } catch (error) {
      cause = 'error';
      message = (error as Error).message;
    }
    if (cause === undefined) return true;
    this.#finish(row, row.end(cause, message), output);
    return false;
  }

  #finish(row: Row, event: EndEvent, output: StepOutput): void {
    this.#cancelled.delete(row.id);
    for (const { adapter } of row.spans) {
      const entry = this.#selections.get(adapter.key);
      if (entry === undefined) continue;
      entry.rows -= 1;
      if (entry.rows === 0) this.#selections.delete(adapter.key);
    }
    output.ends.push(event);
  }

  #applyCancels(output: StepOutput): void {
    if (this.#cancelled.size === 0) return;
    const gone = (row: Row) => this.#cancelled.has(row.id);
    for (const row of this.#waiting.filter(gone)) this.#finish(row, row.end('cancelled'), output);
    const ended = new Set(output.ends.map(({ id }) => id));
    this.#waiting = this.#waiting.filter((row) => !ended.has(row.id));
    if (this.#prefilling !== undefined && gone(this.#prefilling.row)) {
      const { row, store } = this.#prefilling;
      this.#prefilling = undefined;
      store.release();
      this.#finish(row, row.end('cancelled'), output);
    }
    for (const row of this.#batch.rows.filter(gone)) {
      this.#batch.remove(row);
      this.#finish(row, row.end('cancelled'), output);
    }
    // What is left names rows that had ended already.
    this.#cancelled.clear();
  }

  /** The row's adapters by position; selections in use are combined once and shared. */
  #spans(request: RowRequest): AdapterSpan[] {
    const parts = request.selection.map(({ digest, weight }) => {
      const adapter = this.#adapters.get(digest);
      if (adapter === undefined) throw new Error(`adapter ${digest} is not loaded`);
      return { adapter, weight, from: activationPoint(adapter, request.promptIds) };
    });
    return spansOf(parts, (active) => {
      const key = selectionKey(active.map(({ adapter, weight }) => ({ digest: adapter.digest, weight })));
      const known = this.#selections.get(key);
      if (known !== undefined) {
        known.rows += 1;
        return known.adapter;
      }
      const adapter = combine(active);
      if (key !== '') this.#selections.set(key, { adapter, rows: 1 });
      return adapter;
    });
  }
}

function fields(row: Row): { id: number; key: string; totalTokens: number } {
  return { id: row.id, key: row.key, totalTokens: row.totalTokens };
}
