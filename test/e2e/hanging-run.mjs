// Loaded before a server's own modules: the engine thread's first step stays in a native call for longer than a test.
import { spawnSync } from 'node:child_process';
import { isMainThread, workerData } from 'node:worker_threads';

const HANG_SECONDS = '20';

if (!isMainThread && /\/engine\/worker\.[jt]s$/.test(workerData?.module ?? '')) {
  const { InferenceSession } = await import('onnxruntime-node');
  const create = InferenceSession.create.bind(InferenceSession);
  InferenceSession.create = async (...args) => {
    const session = await create(...args);
    session.run = async () => {
      spawnSync('sleep', [HANG_SECONDS]);
      throw new Error('it returned after all');
    };
    return session;
  };
}
