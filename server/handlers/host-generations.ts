/** Runs the generations that a handler's thread asks for. */
import { setMaxListeners } from 'node:events';
import { AppError } from '../errors.js';
import { receiptsOf } from '../service/receipt-header.js';
import type { CallContext, InferenceService, PredictEvent, Receipt } from '../service/types.js';
import { fromParams, toEvent, toResult } from './generation.js';
import type { FromHandler, ToHandler } from './messages.js';

type Ask = Extract<FromHandler, { type: 'generate' | 'pull' | 'leave' }>;

interface Running {
  readonly context: CallContext;
  /** Made with the first generation: most calls have none. */
  abort: AbortController | undefined;
  readonly receipts: Receipt[];
}

interface Streaming {
  readonly call: number;
  readonly requestId: string;
  readonly events: Promise<AsyncIterator<PredictEvent>>;
}

/** Whose generations they are. */
export interface GenerationsFor {
  readonly model: string;
  /** The adapter that the handler belongs to; absent = any may be asked for. */
  readonly adapter?: string | undefined;
  /** Undefined where the model has no weights. */
  readonly inference: InferenceService | undefined;
}

/** Generations end with the call that asked for them, whatever became of it. */
export class HostGenerations {
  readonly #for: GenerationsFor;
  readonly #send: (message: ToHandler) => void;
  readonly #calls = new Map<number, Running>();
  readonly #streams = new Map<number, Streaming>();

  constructor(options: GenerationsFor, send: (message: ToHandler) => void) {
    this.#for = options;
    this.#send = send;
  }

  /** A call begins. @returns the receipts of what is generated for it, which grow until the call is over */
  open(call: number, context: CallContext): readonly Receipt[] {
    const receipts: Receipt[] = [];
    this.#calls.set(call, { context, abort: undefined, receipts });
    return receipts;
  }

  /** A call is over; what it still generates is cancelled. */
  close(call: number): void {
    this.#calls.get(call)?.abort?.abort(new AppError('CANCELED', 'the call of the handler is over'));
    this.#calls.delete(call);
    for (const [generation, stream] of this.#streams) if (stream.call === call) this.#streams.delete(generation);
  }

  /** Takes what the handler's thread asks. */
  receive(ask: Ask): void {
    if (ask.type === 'generate') this.#generate(ask).catch((thrown: unknown) => this.#refuse(ask.generation, thrown));
    else if (ask.type === 'pull')
      this.#pull(ask.generation).catch((thrown: unknown) => this.#refuse(ask.generation, thrown));
    else this.#leave(ask.generation);
  }

  async #generate({ call, generation, params, stream }: Extract<Ask, { type: 'generate' }>): Promise<void> {
    const asked = this.#calls.get(call);
    if (asked === undefined) throw new AppError('CANCELED', 'the call that asks to generate is over');
    const { requestId } = asked.context;
    if (asked.abort === undefined) {
      asked.abort = new AbortController();
      // Each generation of the call listens.
      setMaxListeners(0, asked.abort.signal);
    }
    const context = { requestId, signal: asked.abort.signal };
    const start = async () => {
      const { model, adapter, inference } = this.#for;
      if (inference === undefined) {
        throw new AppError('UNIMPLEMENTED', `model ${model} has no weights, so its handler cannot generate`);
      }
      return { inference, request: fromParams(params, model, adapter) };
    };
    if (!stream) {
      const { inference, request } = await start();
      const results = await inference.predict(request, context);
      asked.receipts.push(...receiptsOf(results));
      this.#send({ type: 'generated', generation, results: results.map((result) => toResult(result, requestId)) });
      return;
    }
    const events = start()
      .then(({ inference, request }) => inference.stream(request, context))
      .then((iterable) => iterable[Symbol.asyncIterator]());
    // Whoever pulls is told.
    events.catch(() => {});
    this.#streams.set(generation, { call, requestId, events });
  }

  async #pull(generation: number): Promise<void> {
    const stream = this.#streams.get(generation);
    if (stream === undefined) throw new AppError('CANCELED', 'there is no such generation any more');
    const { done, value } = await (await stream.events).next();
    if (done) this.#streams.delete(generation);
    else if (value.type === 'final') this.#calls.get(stream.call)?.receipts.push(...receiptsOf([value.result]));
    this.#send({ type: 'step', generation, event: done ? undefined : toEvent(value, stream.requestId) });
  }

  #leave(generation: number): void {
    const stream = this.#streams.get(generation);
    this.#streams.delete(generation);
    stream?.events.then((iterator) => iterator.return?.()).catch(() => {});
  }

  #refuse(generation: number, thrown: unknown): void {
    const { message, reason, spec } = AppError.from(thrown);
    this.#send({ type: 'refused', generation, message, reason, code: spec.http });
  }
}
