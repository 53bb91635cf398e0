/**
 * Options of clients and calls that say nothing, or nothing that makes sense: passed over, a call would have no deadline,
 * lose its headers, or fail later as a lost connection.
 */
import type { ClientOptions } from './client.js';
import { refuseAdapters } from './misplaced.js';
import type { CallOptions } from './types.js';
import { refuseNoRecord, refuseOthers } from './unknown-fields.js';

/** Where a server listens unless told otherwise. */
const DEFAULT_BASE_URL = 'http://127.0.0.1:8080';

const CALL: readonly (keyof CallOptions)[] = ['signal', 'timeoutMs', 'maxRetries', 'headers'];
const CLIENT: readonly (keyof ClientOptions)[] = ['baseUrl', 'timeoutMs', 'maxRetries', 'headers'];

/** @throws TypeError for an option of a call that does not exist or has no value that it could have */
export function checkCallOptions(options: CallOptions): void {
  refuseAdapters(options, 'options of a call');
  refuseOthers(options, CALL, 'CallOptions');
  checkCommon(options);
  const { signal } = options;
  if (signal !== undefined && typeof signal?.addEventListener !== 'function')
    throw new TypeError('signal must be an AbortSignal, as controller.signal is');
}

/**
 * The same for options of a client.
 * @param more options that this kind of client has besides
 * @returns where the server is
 */
export function checkClientOptions(options: ClientOptions, more: readonly string[]): string {
  if (typeof options !== 'object' || options === null)
    throw new TypeError(`options of a client must be an object, such as { baseUrl: '${DEFAULT_BASE_URL}' }`);
  refuseAdapters(options, 'options of a client');
  refuseOthers(options, [...CLIENT, ...more], 'LoramuxClientOptions');
  checkCommon(options);
  const { baseUrl = DEFAULT_BASE_URL } = options;
  const isOwnFetch = 'fetch' in options && options.fetch !== undefined;
  if (!isAddress(baseUrl, isOwnFetch))
    throw new TypeError(`baseUrl must be an address such as "${DEFAULT_BASE_URL}", not ${JSON.stringify(baseUrl)}`);
  return baseUrl;
}

function checkCommon({ timeoutMs, maxRetries, headers }: CallOptions): void {
  // What is left of a budget may be less than nothing: such a call is late, not wrong.
  if (timeoutMs !== undefined && !isNumber(timeoutMs))
    throw new TypeError(`timeoutMs must be a number of milliseconds, not ${String(timeoutMs)}`);
  if (maxRetries !== undefined && !(isNumber(maxRetries) && maxRetries >= 0))
    throw new TypeError(`maxRetries must be a number, 0 or more, not ${String(maxRetries)}`);
  refuseNoRecord(headers, 'headers');
}

const isNumber = (value: unknown): boolean => typeof value === 'number' && !Number.isNaN(value);

function isAddress(baseUrl: unknown, isOwnFetch: boolean): boolean {
  if (typeof baseUrl !== 'string') return false;
  // A page may name a place on the server that it is from, and a caller's own fetch may know where that is.
  const page =
    (globalThis as { location?: { href?: string } }).location?.href ?? (isOwnFetch ? DEFAULT_BASE_URL : undefined);
  try {
    return /^https?:$/.test(new URL(baseUrl, page).protocol);
  } catch {
    return false;
  }
}
