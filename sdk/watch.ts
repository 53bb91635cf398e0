import { type Client, Code, ConnectError } from '@connectrpc/connect';
import type { AdapterService } from '../gen/loramux/v1/adapters_pb.js';
import { ConnectionError, toLoramuxError, UnavailableError } from './errors.js';
import { fromWatch } from './from-adapter.js';
import { type ResolvedOptions, sleep } from './retry.js';
import type { AdapterEvent } from './types.js';

const FIRST_PAUSE_MS = 100;
const MAX_PAUSE_MS = 5000;

/** Watches until it is left, resuming after lost connections; `maxRetries` failures without an event between are the end. */
export async function* watchAdapters(
  rpc: Client<typeof AdapterService>,
  { model = '', resumeToken = '' }: { model?: string; resumeToken?: string },
  { signal, headers, maxRetries }: ResolvedOptions,
): AsyncGenerator<AdapterEvent, void, undefined> {
  let token = resumeToken;
  for (let failures = 0; ; ) {
    // Leaving the iteration does not end a stream of Connect; aborting it does.
    const left = new AbortController();
    const both = signal === undefined ? left.signal : AbortSignal.any([signal, left.signal]);
    try {
      const stream = rpc.watchAdapters({ model, resumeToken: token }, { signal: both, ...(headers && { headers }) });
      for await (const message of stream) {
        failures = 0;
        const event = fromWatch(message);
        if (event !== undefined) yield event;
        token = message.resumeToken;
      }
      throw new ConnectError('the watch ended', Code.Unavailable);
    } catch (thrown) {
      const error = toLoramuxError(thrown, signal);
      const lost = error instanceof ConnectionError || error instanceof UnavailableError;
      if (!lost || failures >= maxRetries) throw error;
    } finally {
      left.abort();
    }
    await sleep(Math.min(FIRST_PAUSE_MS * 2 ** failures, MAX_PAUSE_MS), signal);
    failures += 1;
  }
}
