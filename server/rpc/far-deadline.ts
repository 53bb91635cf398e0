/** Deadlines beyond what a timer of Node can wait for: it would fire at once, and so would the call end. */
import type { AnyRequest } from '../listener/exchange.js';

/** The longest wait of a timer, about 25 days. */
const MAX_TIMER_MS = 2 ** 31 - 1;
/** Units of the header `grpc-timeout`, in milliseconds. */
const UNITS_MS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 };

/** Takes a deadline that is too far away out of the request, which then has none. */
export function dropFarDeadline({ headers }: Pick<AnyRequest, 'headers'>): void {
  const grpc = /^(\d{1,8})([HMSmun])$/.exec(String(headers['grpc-timeout'] ?? ''));
  if (grpc !== null && Number(grpc[1]) * UNITS_MS[grpc[2]!]! > MAX_TIMER_MS) delete headers['grpc-timeout'];
  const connect = String(headers['connect-timeout-ms'] ?? '');
  if (/^\d{1,10}$/.test(connect) && Number(connect) > MAX_TIMER_MS) delete headers['connect-timeout-ms'];
}
