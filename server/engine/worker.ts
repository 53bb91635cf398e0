/**
 * The engine thread. It opens the model folder for itself, owns sessions and caches, runs steps while there is work, and
 * reads messages between steps. After the start it reads no files but those of graphs that are opened later.
 */
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { AppError } from '../errors.js';
import { type MergePart, mergeInto } from '../model/merge.js';
import { openModelFolder } from '../model/model-folder.js';
import type { Unkept } from './converted-weights.js';
import { EngineLoop } from './engine-loop.js';
import type { FromEngine, ToEngine } from './messages.js';
import { type DeviceOptions, openOnDevice } from './open-device.js';
import { inPositions, type WorkerLimits } from './position-limits.js';
import { StepMarks } from './step-marks.js';

/** What the main thread passes to the worker. */
export interface WorkerOptions extends Omit<DeviceOptions, 'marks' | 'onUnkept'> {
  readonly modelDir: string;
  readonly limits: WorkerLimits;
  /** Adapters to merge into the weights before anything else; absent = none. */
  readonly merge?: readonly MergePart[] | undefined;
  /** Absent = the only engine thread of its model. */
  readonly team?: TeamPlace | undefined;
  /** Where the thread marks what it is doing; see StepMarks. Absent = nobody looks. */
  readonly marks?: SharedArrayBuffer | undefined;
}

/** A thread's place among the engine threads of one model. */
export interface TeamPlace {
  /** Arithmetic threads of a step while others work. */
  readonly threads: number;
  /** int32 [engine threads]: 1 while that thread has rows. */
  readonly working: SharedArrayBuffer;
  readonly index: number;
}

/** One token of a prompt, and the one that follows. */
const LEAST_POSITIONS = 2;

/** Idle time after which a thread opens what rows are likely to need, and how long it waits for that. [ms] */
const QUIET_MS = 250;
const PATIENCE_MS = 3000;

async function main(port: MessagePort, options: WorkerOptions): Promise<void> {
  const post = (message: FromEngine) => port.postMessage(message);
  const opened = await openModelFolder(options.modelDir);
  const folder = options.merge === undefined ? opened : await mergeInto(opened, options.merge);
  const { team } = options;
  const marks = new StepMarks(options.marks);
  const working = new Int32Array(team?.working ?? new SharedArrayBuffer(4));
  const index = team?.index ?? 0;
  const beside = () => working.some((value, other) => value === 1 && other !== index);
  const shared = team && { threads: team.threads, beside };
  let unkept: Unkept | undefined;
  const onUnkept = (one: Unkept) => {
    unkept = one;
  };
  const { backend, device, why } = await openOnDevice(folder, { ...options, shared, marks, onUnkept });
  const limits = inPositions(options.limits, backend);
  if (limits.maxPositions < LEAST_POSITIONS) {
    const { positionBytes } = backend;
    await backend.close();
    throw new Error(
      `--kv-bytes is too small for any input: a token takes ${positionBytes} bytes of keys and values, and this engine ` +
        `thread has ${options.limits.kvBytes} (--engines divide them)`,
    );
  }
  const engine = new EngineLoop(backend, limits);

  let stepping = false;
  let closed = false;
  const end = async () => {
    closed = true;
    await backend.close();
    port.close();
  };
  let { place } = backend;
  /** Tells that the model goes on elsewhere, if it does since the last call. */
  const tellMove = (): void => {
    if (backend.place === undefined || backend.place === place) return;
    place = backend.place;
    post({ type: 'moved', ...place, maxPositions: limits.maxPositions, kept: backend.kept, unkept });
    openAhead();
  };
  /** True when the device could not be opened again: then the engine is at its end, and everyone learns why. */
  const broken = (): boolean => {
    if (backend.broken === undefined) return false;
    if (!closed) {
      post({ type: 'failed', message: backend.broken.message });
      void end();
    }
    return true;
  };
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
          tellMove();
          post({ type: 'loaded', digest: message.adapter.digest, stats: engine.stats() });
        } catch (error) {
          if (broken()) return;
          tellMove();
          const { message: fault } = error as Error;
          const { digest } = message.adapter;
          const reason = error instanceof AppError ? error.reason : undefined;
          post({ type: 'loaded', digest, error: fault, reason, stats: engine.stats() });
        }
        return;
      case 'unload':
        engine.unload(message.digest);
        post({ type: 'unloaded', digest: message.digest, stats: engine.stats() });
        return;
      case 'give':
        post({ type: 'given', digest: message.digest, adapter: engine.adapter(message.digest) });
        return;
      case 'beside':
        backend.expectOthers?.();
        openAhead();
        return;
      case 'packed':
        openAhead();
        return;
      case 'close':
        await end();
    }
  };
  const run = async (): Promise<void> => {
    if (stepping) return;
    stepping = true;
    Atomics.store(working, index, 1);
    while (engine.busy && !closed) {
      const output = await marks.run(() => engine.step());
      if (broken()) return;
      tellMove();
      if (Object.values(output).some(({ length }) => length > 0)) {
        post({ type: 'step', ...output, stats: engine.stats() });
      }
      // Lets messages in: a session's run alone does not always pass through the event loop.
      await new Promise((resolve) => setImmediate(resolve));
    }
    Atomics.store(working, index, 0);
    stepping = false;
    quietSince = performance.now();
  };

  let quietSince = performance.now();
  let opening = false;
  /** Opens what is left to open, one by one between steps, as soon as nothing runs for a moment or it has waited long. */
  const openAhead = (): void => {
    if (opening || backend.openAhead === undefined) return;
    opening = true;
    const asked = performance.now();
    const attempt = async (): Promise<void> => {
      const now = performance.now();
      const patient = stepping || now - quietSince < QUIET_MS;
      if (closed) return;
      if (patient && now - asked < PATIENCE_MS) return again();
      try {
        if (await backend.openAhead!()) return again();
      } catch {
        // Whoever needs it is told then.
      }
      opening = false;
    };
    const again = (): void => void setTimeout(() => void attempt(), QUIET_MS).unref();
    again();
  };

  port.on('message', (message: ToEngine) => {
    void handle(message)
      .then(run)
      .catch((error: Error) => post({ type: 'failed', message: error.message }));
  });
  post({ type: 'ready', device, why, maxPositions: limits.maxPositions, kept: backend.kept, unkept });
  openAhead();
}

if (parentPort !== null) {
  const port = parentPort;
  main(port, (workerData as { options: WorkerOptions }).options).catch((error: Error) =>
    port.postMessage({ type: 'failed', message: error.message } satisfies FromEngine),
  );
}
