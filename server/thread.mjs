// Entry of every worker thread: makes TypeScript sources importable where the server runs from sources, then loads the
// module named in workerData. (Node 20 applies `--import tsx` only after a worker's own entry has been resolved.)
import { workerData } from 'node:worker_threads';

if (workerData.module.endsWith('.ts')) {
  const { register } = await import('tsx/esm/api');
  register();
} else await import('./source-lines.mjs');
await import(workerData.module);
