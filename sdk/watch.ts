import { type Client, Code, ConnectError } from '@connectrpc/connect';
import type { AdapterService } from '../gen/loramux/v1/adapters_pb.js';
import type { AdapterEvent } from './adapter-types.js';
import { ConnectionError, toLoramuxError, UnavailableError } from './errors.js';
import { fromWatch } from './from-adapter.js';
import { type ResolvedOptions, sleep } from './retry.js';
import type { RunningCalls } from './running-calls.js';

const FIRST_PAUSE_MS = 100;
const MAX_PAUSE_MS = 5000;
/** Failures after which a watch gives up that was connected before: with the pauses, about half a minute. */
const RETRIES_ONCE_CONNECTED = 10;

/** Options of a watch. */
export interface WatchOptions extends ResolvedOptions {
  /** `maxRetries` where caller or client gave one; it then counts from the first connection on. */
  readonly ownMaxRetries: number | undefined;
  readonly running: RunningCalls;
}

/**
 * Watches until it is left or its client is closed, resuming after lost connections. So many failures as there may be
 * retries, without an event between, are the end.
 */
export async function* watchAdapters(
  rpc: Client<typeof AdapterService>,
  { model = '', resumeToken = '' }: { model?: string; resumeToken?: string },
  { signal: outer, headers, maxRetries, ownMaxRetries, running }: WatchOptions,
): AsyncGenerator<AdapterEvent, void, undefined> {
  const call = running.begin(outer);
  try {
    yield* resuming(rpc, model, resumeToken, call.signal, headers, {
      first: maxRetries,
      later: ownMaxRetries ?? RETRIES_ONCE_CONNECTED,
    });
  } finally {
    call.end();
  }
}

async function* resuming(
  rpc: Client<typeof AdapterService>,
  model: string,
  resumeToken: string,
  signal: AbortSignal,
  headers: Record<string, string> | undefined,
  retries: { readonly first: number; readonly later: number },
): AsyncGenerator<AdapterEvent, void, undefined> {
  let token = resumeToken;
  let most = retries.first;
  for (let failures = 0; ; ) {
    // Leaving the iteration does not end a stream of Connect; aborting it does.
    const left = new AbortController();
    const both = AbortSignal.any([signal, left.signal]);
    try {
      const stream = rpc.watchAdapters({ model, resumeToken: token }, { signal: both, ...(headers && { headers }) });
      for await (const message of stream) {
        failures = 0;
        most = retries.later;
        const event = fromWatch(message);
        if (event !== undefined) yield event;
        token = message.resumeToken;
      }
      throw new ConnectError('the watch ended', Code.Unavailable);
    } catch (thrown) {
      const error = toLoramuxError(thrown, signal);
      const lost = error instanceof ConnectionError || error instanceof UnavailableError;
      if (!lost || !(failures < most)) throw error;
    } finally {
      left.abort();
    }
    await sleep(Math.min(FIRST_PAUSE_MS * 2 ** failures, MAX_PAUSE_MS), signal);
    failures += 1;
  }
}
