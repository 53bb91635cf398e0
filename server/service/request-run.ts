/** One request in the engine: leases its adapters, submits its rows together, and frees everything in every case. */
import type { EngineRow, RowHandle } from '../engine/engine.js';
import type { EndEvent, PromptEvent, TokenEvent } from '../engine/messages.js';
import { AppError } from '../errors.js';
import { type FittedRow, fitToAdapters } from './adapter-text.js';
import type { Candidate } from './best-of.js';
import type { PlannedRow } from './plan-rows.js';
import type { AdapterLeases, LoadedModel } from './ports.js';
import { newTokensOf } from './read-prompt.js';
import { RowAnswer } from './row-answer.js';
import { abortError, rowError } from './run-errors.js';
import type { CallContext, FinishReason, TokenInfo } from './types.js';

/** Receives what a request produces. Nothing is called after `done` or `failed`. */
export interface RunSink {
  /**
   * The `at`-th answer begins with the prompt, as its adapters have it; before its tokens.
   * @param tokens those of the prompt, where their log-probabilities were asked for
   */
  prompt(at: number, text: string, tokens: readonly TokenInfo[] | undefined): void;
  /** Tokens of the `at`-th row that became final. */
  tokens(at: number, tokens: readonly TokenInfo[]): void;
  /** The answer of the `at`-th row is complete. */
  result(at: number, candidate: Candidate): void;
  /** Every row is complete. */
  done(): void;
  /** The request is over; its rows are being cancelled. */
  failed(error: AppError): void;
}

/** What ended a row: of a request that was cancelled or failed it has no result. */
export type RowEnd = FinishReason | 'cancelled' | 'error';

/** Told once of every row that an engine took, when it has ended. */
export type RowEnded = (model: string, end: RowEnd) => void;

/** What a run needs to know of its call. */
type Urgent = Pick<CallContext, 'signal' | 'priority' | 'deadline'>;

/** A request that runs. */
export interface RequestRun {
  /** Cancels all rows and fails the sink. Without effect once the request is over. */
  cancel(reason: AppError): void;
}

/**
 * Starts the rows. Each lease is released exactly once, when the engine has ended its row: until then the row may
 * still use the weights.
 * @throws AppError of the leases or the engine; then nothing runs and nothing is leased
 */
export async function startRun(
  model: LoadedModel,
  leasing: AdapterLeases,
  rows: readonly PlannedRow[],
  call: Urgent,
  sink: RunSink,
  ended: RowEnded = () => {},
): Promise<RequestRun> {
  const { signal } = call;
  if (signal.aborted) throw abortError(signal);
  const selections = rows.map(({ selection }) => selection);
  const leased = await leasing.acquire(model.info.name, selections, call, model.engine).catch((thrown: unknown) => {
    throw signal.aborted ? abortError(signal) : thrown;
  });
  const run = new Run(model, sink, ended, call, await fitAll(rows, model, leased, signal), leased);
  run.start();
  return run;
}

/** The rows as their adapters have them; on a fault nothing stays leased. */
async function fitAll(
  rows: readonly PlannedRow[],
  model: LoadedModel,
  leased: Leased,
  signal: AbortSignal,
): Promise<FittedRow[]> {
  try {
    const fitted: FittedRow[] = [];
    for (const [at, row] of rows.entries()) fitted.push(await fitToAdapters(row, model, leased[at]!.leases, signal));
    return fitted;
  } catch (thrown) {
    for (const { release } of leased) release();
    throw signal.aborted ? abortError(signal) : thrown;
  }
}

type Leased = Awaited<ReturnType<AdapterLeases['acquire']>>;

class Run implements RequestRun {
  readonly #model: LoadedModel;
  readonly #sink: RunSink;
  readonly #ended: RowEnded;
  readonly #signal: AbortSignal;
  readonly #urgency: Pick<EngineRow, 'priority' | 'deadline'>;
  readonly #rows: readonly PlannedRow[];
  readonly #leased: Leased;
  readonly #answers: readonly RowAnswer[];
  #handles: readonly RowHandle[] = [];
  #rowsLeft: number;
  #over = false;

  constructor(
    model: LoadedModel,
    sink: RunSink,
    ended: RowEnded,
    call: Urgent,
    rows: readonly FittedRow[],
    leased: Leased,
  ) {
    this.#model = model;
    this.#sink = sink;
    this.#ended = ended;
    this.#signal = call.signal;
    this.#urgency = { priority: call.priority, deadline: call.deadline };
    this.#rows = rows.map(({ row }) => row);
    this.#leased = leased;
    this.#answers = rows.map((fitted) => new RowAnswer(fitted.row, fitted.model));
    this.#rowsLeft = rows.length;
  }

  start(): void {
    try {
      if (this.#signal.aborted) throw abortError(this.#signal);
      for (const [at, { promptText, parameters }] of this.#rows.entries()) {
        if (promptText !== '' && parameters.promptLogprobs === undefined) this.#sink.prompt(at, promptText, undefined);
      }
      this.#handles = this.#model.engine.submit(
        this.#rows.map((row, at) => this.#engineRow(row, at)),
        this.#rows.map((_, at) => ({
          prompt: (event) => this.#prompt(at, event),
          token: (event) => this.#token(at, event),
          end: (event) => this.#end(at, event),
        })),
      );
    } catch (thrown) {
      this.#over = true;
      for (const { release } of this.#leased) release();
      throw thrown;
    }
    // An engine may answer before it returns the handles.
    for (const [at, answer] of this.#answers.entries()) if (answer.stopped || this.#over) this.#handles[at]!.cancel();
    if (!this.#over) this.#signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  cancel(reason: AppError): void {
    this.#finish(() => {
      for (const handle of this.#handles) handle.cancel();
      this.#sink.failed(reason);
    });
  }

  readonly #onAbort = (): void => this.cancel(abortError(this.#signal));

  #engineRow(row: PlannedRow, at: number): EngineRow {
    const { parameters, promptIds, seed } = row;
    const { temperature, topK, topP, minP, typicalP, logitBias } = parameters;
    const { repetitionPenalty, presencePenalty, frequencyPenalty } = parameters;
    return {
      promptIds,
      selection: this.#leased[at]!.leases.map(({ digest, weight }) => ({ digest, weight })),
      sampling: {
        temperature,
        topK,
        topP,
        minP,
        typicalP,
        logitBias,
        repetitionPenalty,
        presencePenalty,
        frequencyPenalty,
        seed,
        logprobs: this.#answers[at]!.logprobs,
      },
      maxNewTokens: newTokensOf(parameters, promptIds.length, this.#model),
      endIds: this.#answers[at]!.endIds,
      ...this.#urgency,
      promptLogprobs: parameters.promptLogprobs,
    };
  }

  #prompt(at: number, event: PromptEvent): void {
    if (!this.#over) this.#answers[at]!.scorePrompt(event);
  }

  #token(at: number, event: TokenEvent): void {
    const answer = this.#answers[at]!;
    if (this.#over || answer.complete) return;
    this.#guard(() => {
      if (answer.untouched) this.#scoredPrompt(at);
      this.#deliver(at, answer.push(event));
      if (answer.stopped) this.#handles[at]?.cancel();
    });
  }

  #end(at: number, event: EndEvent): void {
    this.#leased[at]!.release();
    this.#rowsLeft--;
    if (!this.#over) this.#complete(at, event);
    const { finishReason } = this.#answers[at]!;
    this.#ended(this.#model.info.name, finishReason ?? (event.cause === 'error' ? 'error' : 'cancelled'));
  }

  #complete(at: number, event: EndEvent): void {
    const { leases } = this.#leased[at]!;
    const answer = this.#answers[at]!;
    if (event.cause === 'error' && !answer.complete) {
      this.cancel(rowError(event, leases, this.#model.engine.alive));
      return;
    }
    if (event.cause === 'cancelled' && !answer.complete) {
      // Nobody here asked for it: what there is of the answer must not pass for the whole.
      this.cancel(new AppError('ENGINE_FAILED', 'the engine was closed before the answer was complete'));
      return;
    }
    this.#guard(() => {
      this.#deliver(at, answer.end());
      // Delivering may have ended the request: its reader was too slow.
      if (this.#over) return;
      const { meanLogprob } = answer;
      this.#sink.result(at, { result: answer.result(event, leases), meanLogprob });
      if (this.#rowsLeft === 0) this.#finish(() => this.#sink.done());
    });
  }

  /** All of the prompt is scored once there is a token: what repeats it has waited for that. */
  #scoredPrompt(at: number): void {
    const { promptText, parameters } = this.#rows[at]!;
    if (promptText === '' || parameters.promptLogprobs === undefined) return;
    this.#sink.prompt(at, promptText, this.#answers[at]!.promptTokens());
  }

  #deliver(at: number, tokens: readonly TokenInfo[]): void {
    if (tokens.length > 0) this.#sink.tokens(at, tokens);
  }

  /** A fault in here must end this request, and not reach the engine's other rows. */
  #guard(work: () => void): void {
    try {
      work();
    } catch (thrown) {
      this.cancel(AppError.from(thrown));
    }
  }

  #finish(end: () => void): void {
    if (this.#over) return;
    this.#over = true;
    this.#signal.removeEventListener('abort', this.#onAbort);
    end();
  }
}
