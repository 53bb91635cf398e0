/** A thread that hashes what another one reads. It answers in the order in which it is asked. */
import { parentPort } from 'node:worker_threads';
import { OwnHash } from './content-hash.js';
import { yieldCores } from './yield-cores.js';

/** To the thread: a new hash, the next things to take, or the wish for the digest. */
export type ToHasher =
  | { readonly type: 'begin' }
  /** Bytes of shared memory, which are left alone until the answer comes. */
  | { readonly type: 'update'; readonly parts: readonly (string | Uint8Array)[] }
  | { readonly type: 'finish' };

/** The answer to each update and finish: the digest, or '' for an update. */
export type FromHasher = string;

yieldCores();
const port = parentPort!;
let hash = new OwnHash();

const answer = (value: FromHasher) => port.postMessage(value);

port.on('message', (message: ToHasher) => {
  switch (message.type) {
    case 'begin':
      hash = new OwnHash();
      return;
    case 'update':
      void hash.update(message.parts).then(() => answer(''));
      return;
    case 'finish':
      void hash.finish().then(answer);
  }
});
