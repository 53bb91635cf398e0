/**
 * The calls that one thread of a handler works on. Each has a time limit, which begins anew with every piece that is made or
 * read, and ends once: with its answer, its last piece, an error, or with the thread.
 */
import type { InputParts } from '../../sdk/handler-input.js';
import { AppError } from '../errors.js';
import { abortError } from '../service/run-errors.js';
import type { CallContext, Receipt } from '../service/types.js';
import { type GenerationsFor, HostGenerations } from './host-generations.js';
import type { FromHandler, HandlerFunction, ToHandler } from './messages.js';
import { PieceQueue } from './piece-queue.js';

/** What a call came to. */
export interface HostAnswer {
  readonly code: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Uint8Array | AsyncIterable<string | Uint8Array> | undefined;
  /** Of what was generated for it; more may come while the body is a stream. */
  readonly receipts: readonly Receipt[];
}

/** What a thread says of its calls. */
export type CallMessage = Exclude<FromHandler, { type: 'ready' | 'failed' | 'pong' }>;

/** What calls need of their surroundings. */
export interface CallsOptions extends GenerationsFor {
  /** Time for the answer to a call, and between two pieces of a stream. */
  readonly callMs: number;
  /** To the thread. */
  readonly send: (message: ToHandler) => void;
  /** A call's time is over: whoever is told ends it with the error, once it is known what became of the thread. */
  readonly late: (id: number, error: AppError) => void;
  /** Told when a call is over. */
  readonly over: () => void;
}

interface Call {
  settle(answer: HostAnswer): void;
  fail(error: AppError): void;
  readonly queue: PieceQueue;
  readonly receipts: readonly Receipt[];
  timer: NodeJS.Timeout | undefined;
}

/** The calls of one thread. */
export class HandlerCalls {
  readonly #options: CallsOptions;
  readonly #calls = new Map<number, Call>();
  readonly #generations: HostGenerations;
  #nextId = 1;

  constructor(options: CallsOptions) {
    this.#options = options;
    this.#generations = new HostGenerations(options, options.send);
  }

  /** How many run. */
  get size(): number {
    return this.#calls.size;
  }

  /** Calls a function. Throws HANDLER_FAILED with the handler's message, what the signal tells, and what {@link end} is given. */
  run(fn: HandlerFunction, input: InputParts, { requestId, signal }: CallContext): Promise<HostAnswer> {
    const { send } = this.#options;
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      if (signal.aborted) {
        reject(abortError(signal));
        return;
      }
      const cancel = (error: AppError): void => {
        send({ type: 'cancel', id, message: error.message });
        this.end(id, error);
      };
      const queue = new PieceQueue(
        (pieces) => {
          send({ type: 'more', id, pieces });
          this.#watch(id);
        },
        () => cancel(new AppError('CANCELED', 'the client went away')),
      );
      const aborted = (): void => cancel(abortError(signal));
      const over = (): void => signal.removeEventListener('abort', aborted);
      this.#calls.set(id, {
        queue,
        receipts: this.#generations.open(id, { requestId, signal }),
        timer: undefined,
        settle: (answer) => {
          if (!(answer.body instanceof PieceQueue)) over();
          resolve(answer);
        },
        fail: (error) => {
          over();
          reject(error);
        },
      });
      signal.addEventListener('abort', aborted, { once: true });
      this.#watch(id);
      send({ type: 'call', id, function: fn, input: plain(input), requestId });
    });
  }

  /** Takes what the thread says. */
  receive(message: CallMessage): void {
    switch (message.type) {
      case 'answer': {
        const call = this.#calls.get(message.id);
        if (call === undefined) return;
        const { code, headers, body } = message;
        const streaming = typeof body === 'object' && 'stream' in body;
        call.settle({ code, headers, body: streaming ? call.queue : body, receipts: call.receipts });
        if (streaming) this.#watch(message.id);
        else this.end(message.id);
        return;
      }
      case 'piece':
        this.#watch(message.id);
        this.#calls.get(message.id)?.queue.push(message.data);
        return;
      case 'end':
        this.end(message.id);
        return;
      case 'error':
        this.end(message.id, failed(message.message, message.status));
        return;
      default:
        this.#generations.receive(message);
    }
  }

  /** A call is over: with an error, or with all that it had to say. */
  end(id: number, error?: AppError): void {
    const call = this.#calls.get(id);
    if (call === undefined) return;
    this.#calls.delete(id);
    clearTimeout(call.timer);
    this.#generations.close(id);
    if (error === undefined) call.queue.end();
    else {
      call.fail(error);
      call.queue.fail(error);
    }
    this.#options.over();
  }

  /** The thread is gone: nothing of it will answer. */
  endAll(error: AppError): void {
    for (const id of [...this.#calls.keys()]) this.end(id, error);
  }

  /** Starts the time of a call anew. */
  #watch(id: number): void {
    const call = this.#calls.get(id);
    if (call === undefined) return;
    const { callMs, send, late } = this.#options;
    clearTimeout(call.timer);
    call.timer = setTimeout(() => {
      const error = new AppError('HANDLER_TIMEOUT', `the handler did not answer within ${callMs} ms`);
      send({ type: 'cancel', id, message: error.message });
      late(id, error);
    }, callMs);
  }
}

function failed(message: string, status: number | undefined): AppError {
  return new AppError('HANDLER_FAILED', message, status === undefined ? {} : { metadata: { status: String(status) } });
}

/** What can be sent to another thread. */
function plain({ properties, ...rest }: InputParts): InputParts {
  return { properties: [...properties], ...rest };
}
