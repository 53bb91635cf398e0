/** An archive behind a URL, as an origin with one file: the archive itself. */
import { AppError } from '../errors.js';
import { httpGet, isPassingStatus, retryAfterOf, unavailable } from './http-get.js';
import type { Origin, RemoteFile } from './origin.js';
import { type ArchiveSource, describeSource } from './source.js';
import type { SourceRules } from './source-rules.js';

/** Makes the origin of an archive. `trusted`: the operator named it, so that its own host needs no rule. */
export function archiveOrigin(
  source: ArchiveSource,
  rules: SourceRules,
  options: { readonly idleMs: number; readonly trusted: boolean },
): Origin {
  const label = describeSource(source);
  const { url } = source;
  const own = (to: URL) => to.host === url.host;
  const get = (headers: Record<string, string>, signal: AbortSignal) =>
    httpGet(url, {
      headers: { ...headers, 'accept-encoding': 'identity' },
      signal,
      idleMs: options.idleMs,
      checkRedirect: (to) => {
        if (own(to) || rules.allowsUrl(to)) return;
        throw new AppError(
          'ADAPTER_SOURCE_FORBIDDEN',
          `${label} redirects to ${to.host}, which no --allow-source covers`,
        );
      },
      mayBePrivate: (to) => rules.namesHost(to.host) || (options.trusted && own(to)),
    });
  const file = (size: number): RemoteFile => ({
    path: 'archive',
    size,
    version: source.sha256,
    digests: { sha256: source.sha256 },
  });
  return {
    label,
    async list(signal) {
      // One byte tells the size, also where HEAD is not signed for (presigned URLs).
      const { status, headers, body } = await get({ range: 'bytes=0-0' }, signal);
      body.destroy();
      checkStatus(status, headers);
      const total = /\/(\d+)$/.exec(headers['content-range'] ?? '')?.[1] ?? headers['content-length'];
      if (total === undefined) throw new AppError('ADAPTER_SOURCE_INVALID', `${label}: the server tells no size`);
      return [file(Number(total))];
    },
    async open(_, offset, signal) {
      const { status, headers, body } = await get(offset > 0 ? { range: `bytes=${offset}-` } : {}, signal);
      try {
        checkStatus(status, headers);
      } catch (error) {
        body.destroy();
        throw error;
      }
      return { body, offset: status === 206 ? offset : 0 };
    },
  };

  function checkStatus(status: number, headers: Parameters<typeof retryAfterOf>[0]): void {
    if (status === 200 || status === 206) return;
    if (isPassingStatus(status)) throw unavailable(url, `answered ${status}`, retryAfterOf(headers));
    throw new AppError('ADAPTER_SOURCE_INVALID', `${label}: answered ${status}`);
  }
}
