/** The engine worker, with a gate before every native run: while the test holds it shut, a run does not return. */
import { workerData } from 'node:worker_threads';
import { InferenceSession } from '../../server/engine/ort.js';

const gate = new Int32Array((workerData as { gate: SharedArrayBuffer }).gate);
const { create } = InferenceSession as unknown as { create(...args: unknown[]): Promise<InferenceSession> };
(InferenceSession as { create: unknown }).create = async (...args: unknown[]) => {
  const session = await create.apply(InferenceSession, args);
  const run = session.run.bind(session) as (...given: unknown[]) => Promise<unknown>;
  (session as { run: unknown }).run = (...given: unknown[]) => {
    Atomics.wait(gate, 0, 1);
    return run(...given);
  };
  return session;
};
await import('../../server/engine/worker.js');
