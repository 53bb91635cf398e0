/**
 * The engine thread. It opens the model folder for itself, owns sessions and caches, runs steps while there is work, and
 * reads messages between steps. Files are never read here after the start.
 */
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { type MergePart, mergeInto } from '../model/merge.js';
import { openModelFolder } from '../model/model-folder.js';
import { EngineLoop, type LoopLimits } from './engine-loop.js';
import type { FromEngine, ToEngine } from './messages.js';
import { type DeviceOptions, openOnDevice } from './open-device.js';

/** What the main thread passes to the worker. */
export interface WorkerOptions extends DeviceOptions {
  readonly modelDir: string;
  readonly limits: LoopLimits;
  /** Adapters to merge into the weights before anything else; absent = none. */
  readonly merge?: readonly MergePart[] | undefined;
}

async function main(port: MessagePort, options: WorkerOptions): Promise<void> {
  const post = (message: FromEngine) => port.postMessage(message);
  const opened = await openModelFolder(options.modelDir);
  const folder = options.merge === undefined ? opened : await mergeInto(opened, options.merge);
  const { backend, device, why } = await openOnDevice(folder, options);
  const engine = new EngineLoop(backend, options.limits);

  let stepping = false;
  let closed = false;
  const handle = async (message: ToEngine): Promise<void> => {
    switch (message.type) {
      case 'submit': {
        const ends = message.rows.flatMap((row) => engine.submit(row) ?? []);
        if (ends.length > 0) post({ type: 'step', prompts: [], tokens: [], ends, stats: engine.stats() });
        return;
      }
      case 'cancel':
        engine.cancel(message.ids);
        return;
      case 'load':
        try {
          await engine.load(message.adapter);
          post({ type: 'loaded', digest: message.adapter.digest, stats: engine.stats() });
        } catch (error) {
          const { message: fault } = error as Error;
          post({ type: 'loaded', digest: message.adapter.digest, error: fault, stats: engine.stats() });
        }
        return;
      case 'unload':
        engine.unload(message.digest);
        post({ type: 'unloaded', digest: message.digest, stats: engine.stats() });
        return;
      case 'close':
        closed = true;
        await backend.close();
        port.close();
    }
  };
  const run = async (): Promise<void> => {
    if (stepping) return;
    stepping = true;
    while (engine.busy && !closed) {
      const output = await engine.step();
      if (Object.values(output).some(({ length }) => length > 0)) {
        post({ type: 'step', ...output, stats: engine.stats() });
      }
      // Lets messages in: a session's run alone does not always pass through the event loop.
      await new Promise((resolve) => setImmediate(resolve));
    }
    stepping = false;
  };
  port.on('message', (message: ToEngine) => {
    void handle(message)
      .then(run)
      .catch((error: Error) => post({ type: 'failed', message: error.message }));
  });
  post({ type: 'ready', device, why });
}

if (parentPort !== null) {
  const port = parentPort;
  main(port, (workerData as { options: WorkerOptions }).options).catch((error: Error) =>
    port.postMessage({ type: 'failed', message: error.message } satisfies FromEngine),
  );
}
