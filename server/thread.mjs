// Entry of every worker thread: makes TypeScript sources importable where the server runs from sources, then loads the
// module named in workerData. (Node 20 applies `--import tsx` only after a worker's own entry has been resolved.)
import { workerData } from 'node:worker_threads';

// The thread is to end, and here it is in no native call. The port alone keeps no thread alive.
workerData.ends.on('message', () => process.exit());
workerData.ends.unref();

if (workerData.module.endsWith('.ts')) {
  const { register } = await import('tsx/esm/api');
  register();
} else await import('./source-lines.mjs');
await import(workerData.module);
