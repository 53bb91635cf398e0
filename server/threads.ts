/** Threads of the process: how a module of the project is started in one, from sources and from the compiled copy alike. */
import { MessageChannel, type MessagePort, Worker, type WorkerOptions } from 'node:worker_threads';

/**
 * The address of a module that lies beside another one.
 * @param url `import.meta.url` of the module that asks
 * @param name file name without its ending
 */
export function moduleBeside(url: string, name: string): string {
  return new URL(`./${name}${url.endsWith('.ts') ? '.ts' : '.js'}`, url).href;
}

/**
 * Starts a module in a thread of its own.
 * @param module its address
 * @param data what its `workerData` holds besides; it must be cloneable
 */
export function startThread(
  module: string,
  data: object = {},
  options: Omit<WorkerOptions, 'workerData'> = {},
): Worker {
  const { port1: end, port2: ends } = new MessageChannel();
  const worker = new Worker(new URL('./thread.mjs', import.meta.url), {
    ...options,
    workerData: { ...data, module, ends },
    transferList: [...(options.transferList ?? []), ends],
  });
  ways.set(worker, end);
  running.add(worker);
  worker.once('exit', () => running.delete(worker));
  return worker;
}

/** A thread for work that can be done without; undefined where the system gives no further one. */
export function tryThread(start: () => Worker): Worker | undefined {
  try {
    return start();
  } catch {
    return undefined;
  }
}

/** How running threads are told to end. */
const ways = new WeakMap<Worker, MessagePort>();
const running = new Set<Worker>();
const ending = new Set<Promise<void>>();

/**
 * Ends a thread as soon as it comes back to its event loop; resolves when it is gone. `terminate()` may come in the middle of
 * a call of native code that cannot be left (onnxruntime's), and the whole process would be aborted.
 */
export async function endThread(worker: Worker): Promise<void> {
  // -1: it is gone already.
  if (worker.threadId === -1) return;
  const gone = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
  ending.add(gone);
  ways.get(worker)!.postMessage('end');
  await gone;
  ending.delete(gone);
}

/**
 * Ends all threads, whatever they are at, as soon as each comes back to its event loop. A process that exits before that is
 * aborted where one is in native code.
 * @param mostMs how long that may take
 * @returns true when all are gone
 */
export async function endAllThreads(mostMs: number): Promise<boolean> {
  const gone = Promise.all([...running].map(endThread)).then(() => true);
  const late = new Promise<boolean>((resolve) => setTimeout(resolve, mostMs, false));
  return Promise.race([gone, late]);
}

/**
 * Resolves when every thread is gone that {@link endThread} was called for, as a process that exits cuts them off, too; at
 * once while a native call holds one.
 */
export async function threadsEnded(): Promise<void> {
  if (held.size === 0) await Promise.all(ending);
}

const held = new Set<Worker>();

/**
 * Notes whether a native call holds a thread. Such a thread cannot be ended, and a process that exits waits for it. Whoever
 * notes it tells when the thread has ended after all, too.
 */
export function noteHeld(worker: Worker, isHeld: boolean): void {
  if (isHeld) held.add(worker);
  else held.delete(worker);
}

/** Threads that a native call holds, as far as anybody noticed. */
export function heldThreads(): number {
  return held.size;
}

/** The first message of a thread; undefined when there is none, or it ended or failed without one. Never rejects. */
export function firstMessage<T>(worker: Worker | undefined): Promise<T | undefined> {
  return new Promise((resolve) => {
    if (worker === undefined) {
      resolve(undefined);
      return;
    }
    worker.once('message', (message: T) => resolve(message));
    worker.once('error', () => resolve(undefined));
    worker.once('exit', () => resolve(undefined));
  });
}
