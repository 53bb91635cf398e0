/** The thread of a custom handler: loads its module and runs its functions, several calls side by side. */
import { setMaxListeners } from 'node:events';
import { access } from 'node:fs/promises';
import nodeModule from 'node:module';
import { pathToFileURL } from 'node:url';
import { parentPort, workerData } from 'node:worker_threads';
import { type Handler, type HandlerContext, Input } from '../../sdk/handler.js';
import { partsOf, pieceOf } from './answer.js';
import { Generations } from './generations.js';
import {
  type FromHandler,
  type HandlerFunction,
  type HandlerWorkerOptions,
  STREAM_WINDOW,
  type ToHandler,
} from './messages.js';

const FUNCTIONS: readonly HandlerFunction[] = ['handle', 'registerAdapter', 'updateAdapter', 'unregisterAdapter'];

const { options } = workerData as { options: HandlerWorkerOptions };
const port = parentPort!;
const send = (message: FromHandler): void => port.postMessage(message);

/** A call that runs. */
interface Running {
  readonly abort: AbortController;
  /** Pieces that may be sent before the reader has taken some. */
  credit: number;
  wake: () => void;
}

const running = new Map<number, Running>();
const generations = new Generations(send);

/** Lets a module in a model's folder find this server's SDK even where no packages are installed. */
async function provideSdk(): Promise<void> {
  const source = import.meta.url;
  const hooks = new URL('./resolve-sdk.mjs', source);
  // Node 20 has `register` alone; newer ones warn of it, in the log of every handler.
  const { registerHooks } = nodeModule as { registerHooks?: (hooks: { resolve: unknown }) => void };
  if (registerHooks === undefined) nodeModule.register(hooks, { data: { source } });
  else registerHooks({ resolve: (await import(hooks.href)).resolverOf(source) });
}

async function loadHandler(): Promise<Handler> {
  await provideSdk();
  // Where the server runs from sources, TypeScript is understood already.
  if (options.entryPoint.endsWith('.ts') && !import.meta.url.endsWith('.ts')) {
    const tsx = await import('tsx/esm/api');
    tsx.register();
  }
  // The loader would say from where it was looked for, which is nobody's business.
  await access(options.entryPoint);
  const module = (await import(pathToFileURL(options.entryPoint).href)) as Partial<Handler> & { default?: Handler };
  const handler = typeof module.default?.handle === 'function' ? module.default : module;
  if (typeof handler.handle !== 'function') {
    throw new TypeError('it exports no function handle, neither by name nor as its default');
  }
  return handler as Handler;
}

async function call(handler: Handler, message: Extract<ToHandler, { type: 'call' }>): Promise<void> {
  const { id } = message;
  const mine: Running = { abort: new AbortController(), credit: STREAM_WINDOW, wake: () => {} };
  running.set(id, mine);
  // Each of its generations listens.
  setMaxListeners(0, mine.abort.signal);
  const { model, modelDir, properties, adapter } = options;
  const context: HandlerContext = {
    model,
    modelDir,
    properties,
    ...(adapter !== undefined && { adapter }),
    requestId: message.requestId,
    signal: mine.abort.signal,
    generate: (params) => generations.whole(id, params, mine.abort.signal),
    stream: (params) => generations.streamed(id, params, mine.abort.signal),
  };
  try {
    // The index keeps `this` where a handler is an object with methods.
    const returned = await handler[message.function]?.(new Input(message.input), context);
    const { stream, body, ...rest } = partsOf(message.function === 'handle' ? (returned as never) : undefined);
    send({ type: 'answer', id, ...rest, body: stream === undefined ? body : { stream: true } });
    if (stream === undefined) return;
    for await (const item of stream) {
      while (mine.credit === 0 && !mine.abort.signal.aborted) {
        await new Promise<void>((resolve) => {
          mine.wake = resolve;
        });
      }
      if (mine.abort.signal.aborted) return;
      mine.credit--;
      send({ type: 'piece', id, data: pieceOf(item) });
    }
    send({ type: 'end', id });
  } catch (thrown) {
    send({ type: 'error', id, ...describe(thrown) });
  } finally {
    running.delete(id);
  }
}

function describe(thrown: unknown): { message: string; status: number | undefined } {
  if (!(thrown instanceof Error)) return { message: String(thrown), status: undefined };
  const { code } = thrown as { code?: unknown };
  const status = typeof code === 'number' && Number.isInteger(code) && code >= 400 && code <= 599 ? code : undefined;
  return { message: thrown.message || thrown.name, status };
}

function receive(handler: Handler, message: ToHandler): void {
  switch (message.type) {
    case 'call':
      void call(handler, message);
      return;
    case 'cancel': {
      const mine = running.get(message.id);
      mine?.abort.abort(new Error(message.message));
      mine?.wake();
      return;
    }
    case 'more': {
      const mine = running.get(message.id);
      if (mine === undefined) return;
      mine.credit += message.pieces;
      mine.wake();
      return;
    }
    case 'ping':
      send({ type: 'pong' });
      return;
    default:
      generations.receive(message);
  }
}

try {
  const handler = await loadHandler();
  port.on('message', (message: ToHandler) => receive(handler, message));
  send({ type: 'ready', functions: FUNCTIONS.filter((name) => typeof handler[name] === 'function') });
} catch (thrown) {
  send({ type: 'failed', message: describe(thrown).message });
}
