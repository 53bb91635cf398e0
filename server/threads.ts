/** Threads of the process: how a module of the project is started in one, from sources and from the compiled copy alike. */
import { Worker, type WorkerOptions } from 'node:worker_threads';

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
  return new Worker(new URL('./thread.mjs', import.meta.url), { ...options, workerData: { ...data, module } });
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

/** The first message of a thread; undefined when it ended or failed without one. Never rejects. */
export function firstMessage<T>(worker: Worker): Promise<T | undefined> {
  return new Promise((resolve) => {
    worker.once('message', (message: T) => resolve(message));
    worker.once('error', () => resolve(undefined));
    worker.once('exit', () => resolve(undefined));
  });
}
