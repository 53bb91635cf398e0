/** A thread that encodes texts which are too long for the thread that answers everybody. */
import { parentPort, workerData } from 'node:worker_threads';
import { plainError } from '../adapters/plain-error.js';
import { yieldCores } from '../adapters/yield-cores.js';
import type { KeptFiles } from '../text/text-files.js';
import { encodeJob } from './encode-job.js';
import type { EncodeJob, FromEncoder } from './encode-messages.js';
import { openText } from './load-text.js';

const { files } = workerData as { readonly files: KeptFiles };

yieldCores();
const port = parentPort!;
const text = openText(files);
text.catch(() => {}); // Told by the first answer.

port.on('message', async (job: EncodeJob) => {
  let answer: FromEncoder;
  try {
    answer = { type: 'done', encoded: encodeJob(await text, job) };
  } catch (thrown) {
    answer = { type: 'failed', error: plainError(thrown) };
  }
  port.postMessage(answer);
});
