/**
 * HTTP GET for sources. Each hop of a redirect is checked like the first URL, names are resolved here so that a public
 * name cannot lead into a private network, and credentials never follow to another origin.
 */
import { lookup as resolveName } from 'node:dns';
import * as http from 'node:http';
import * as https from 'node:https';
import { isIP, type LookupFunction } from 'node:net';
import { AppError } from '../errors.js';
import { isPrivateAddress } from './private-address.js';
import { redactSource } from './source.js';

/** How far a request may go. */
export interface HttpGetOptions {
  readonly headers?: Readonly<Record<string, string>> | undefined;
  readonly signal: AbortSignal;
  /** Longest silence of the other end, in milliseconds. */
  readonly idleMs: number;
  /** Throws an AppError where a redirect must not be followed. */
  checkRedirect(to: URL): void;
  /** True where the host may have a private address. */
  mayBePrivate(url: URL): boolean;
}

/** An answer, whatever its status; whoever gets it must read or destroy the body. */
export interface HttpAnswer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: http.IncomingMessage;
  /** Where the last redirect led. */
  readonly url: URL;
}

const MAX_REDIRECTS = 5;
const REDIRECTS = new Set([301, 302, 303, 307, 308]);

/** A failure of the network that may pass. The cause is not kept: it could quote the URL. */
export function unavailable(url: URL, what: string, retryAfterMs?: number): AppError {
  return new AppError('SOURCE_UNAVAILABLE', `${redactSource(url.href)}: ${what}`, {
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
}

function privateTarget(url: URL, address: string): AppError {
  return new AppError(
    'ADAPTER_SOURCE_FORBIDDEN',
    `${redactSource(url.href)}: ${url.hostname} has the private address ${address}; only a host that an ` +
      '--allow-source names without "*" may have one',
  );
}

/** Resolves a name and fails where an address is private and must not be. */
function guardedLookup(url: URL, allowed: boolean): LookupFunction {
  return (hostname, options, callback) => {
    resolveName(hostname, { ...options, all: true }, (error, addresses) => {
      if (error !== null) return callback(error, []);
      const wrong = allowed ? undefined : addresses.find(({ address }) => isPrivateAddress(address));
      if (wrong !== undefined) return callback(privateTarget(url, wrong.address), []);
      if (options.all === true) return callback(null, addresses);
      return callback(null, addresses[0]!.address, addresses[0]!.family);
    });
  };
}

function request(url: URL, headers: Readonly<Record<string, string>>, options: HttpGetOptions): Promise<HttpAnswer> {
  return new Promise((resolve, reject) => {
    const allowed = options.mayBePrivate(url);
    const literal = url.hostname.replace(/^\[|\]$/g, '');
    if (isIP(literal) !== 0 && !allowed && isPrivateAddress(literal)) {
      reject(privateTarget(url, literal));
      return;
    }
    const sent = (url.protocol === 'https:' ? https : http).request(url, {
      method: 'GET',
      // A connection of its own: a pooled one would have been checked for another request.
      agent: false,
      headers: { 'user-agent': 'loramux', ...headers },
      lookup: guardedLookup(url, allowed),
      signal: options.signal,
      timeout: options.idleMs,
    });
    sent.once('timeout', () => sent.destroy(unavailable(url, `nothing came for ${options.idleMs} ms`)));
    sent.once('response', (body) => resolve({ status: body.statusCode ?? 0, headers: body.headers, body, url }));
    sent.once('error', (error: NodeJS.ErrnoException) => {
      if (options.signal.aborted) reject(options.signal.reason);
      else if (error instanceof AppError) reject(error);
      else reject(unavailable(url, `the request failed (${error.code ?? 'connection closed'})`));
    });
    sent.end();
  });
}

/**
 * Gets a URL, following redirects.
 * @throws AppError SOURCE_UNAVAILABLE, ADAPTER_SOURCE_FORBIDDEN; what `signal` was aborted with
 */
export async function httpGet(url: URL, options: HttpGetOptions): Promise<HttpAnswer> {
  let at = url;
  let headers = options.headers ?? {};
  for (let hop = 0; hop <= MAX_REDIRECTS; hop += 1) {
    const answer = await request(at, headers, options);
    const { location } = answer.headers;
    if (!REDIRECTS.has(answer.status) || location === undefined) return answer;
    answer.body.destroy();
    let next: URL;
    try {
      next = new URL(location, at);
    } catch {
      throw unavailable(at, 'it redirects to what is no URL');
    }
    if (next.protocol !== 'https:' && next.protocol !== at.protocol) {
      throw new AppError('ADAPTER_SOURCE_FORBIDDEN', `${redactSource(at.href)} redirects to ${next.protocol}`);
    }
    options.checkRedirect(next);
    if (next.origin !== at.origin) {
      headers = Object.fromEntries(Object.entries(headers).filter(([name]) => name.toLowerCase() !== 'authorization'));
    }
    at = next;
  }
  throw unavailable(url, `more than ${MAX_REDIRECTS} redirects`);
}

/** Milliseconds of a Retry-After header, in seconds or as a date; undefined without one. */
export function retryAfterOf(headers: http.IncomingHttpHeaders): number | undefined {
  const value = headers['retry-after'];
  if (value === undefined) return undefined;
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(ms) ? Math.max(0, ms) : undefined;
}

/** Whether a status may pass by itself: too many requests, or a fault of the server. */
export function isPassingStatus(status: number): boolean {
  return status === 408 || status === 425 || status === 429 || status >= 500;
}
