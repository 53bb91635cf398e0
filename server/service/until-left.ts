/** Waiting for work that goes on without whoever waits: what it brings may be wanted soon, or by others. */
import { canceled } from './adapter-leases.js';

/**
 * What the work brings, unless the signal aborts before that.
 * @param late takes what comes when nobody waits any more
 * @throws AppError CANCELED, or the signal's reason
 */
export async function untilLeft<T>(work: Promise<T>, signal: AbortSignal, late?: (value: T) => void): Promise<T> {
  let leave: (() => void) | undefined;
  const left = new Promise<never>((_, reject) => {
    leave = () => {
      work.then(late, () => {});
      reject(canceled(signal));
    };
    signal.addEventListener('abort', leave, { once: true });
    if (signal.aborted) leave();
  });
  try {
    return await Promise.race([work, left]);
  } finally {
    signal.removeEventListener('abort', leave!);
  }
}
