/** A real engine thread on a golden model, whose native runs do not return while its gate is shut. */
import type { Engine } from '../../server/engine/engine.js';
import { StepMarks } from '../../server/engine/step-marks.js';
import { WorkerEngine } from '../../server/engine/worker-engine.js';
import { startThread } from '../../server/threads.js';
import { GOLDEN } from './golden-model.js';

/** Bytes of a position's keys and values of the llama model: 2 layers, 2 heads of 12, float32. */
const POSITION = 2 * 2 * 2 * 12 * 4;

export class Gate {
  readonly memory = new SharedArrayBuffer(4);
  readonly #cell = new Int32Array(this.memory);

  /** From the next run on, runs do not return. */
  shut(): void {
    Atomics.store(this.#cell, 0, 1);
  }

  open(): void {
    Atomics.store(this.#cell, 0, 0);
    Atomics.notify(this.#cell, 0);
  }
}

/** Resolves at the next change of whether the engine moves. */
export function stallChange(engine: Engine): Promise<void> {
  return new Promise((resolve) => engine.onStall!(resolve));
}

export async function startGated(stepTimeoutMs: number): Promise<{ engine: WorkerEngine; gate: Gate }> {
  const gate = new Gate();
  const marks = new StepMarks();
  const worker = startThread(new URL('./gated-worker.ts', import.meta.url).href, {
    gate: gate.memory,
    options: {
      ...{ modelDir: `${GOLDEN}models/llama`, dtype: 'fp32', threads: 1, lora: true, marks: marks.memory },
      limits: { maxBatch: 4, prefillChunk: 16, kvBytes: 4000 * POSITION },
    },
  });
  const engine = new WorkerEngine(worker, { maxQueue: 20, stepTimeoutMs }, marks);
  await engine.ready;
  return { engine, gate };
}
