/** A repository of a Hugging Face hub, at one commit. */
import { Readable } from 'node:stream';
import type { ReadableStream } from 'node:stream/web';
import { HubApiError, listFiles, modelInfo } from '@huggingface/hub';
import { AppError } from '../errors.js';
import { httpGet, isPassingStatus, retryAfterOf, unavailable } from './http-get.js';
import type { Origin, RemoteFile } from './origin.js';
import { describeSource, type HubSource } from './source.js';

/** Where the hub is and how it is asked. */
export interface HubSettings {
  /** For example `https://huggingface.co`. */
  readonly endpoint: string;
  readonly token?: string | undefined;
}

const MAX_FILES = 10_000;

/** Makes the origin of a repository (or of a folder or file in it). */
export function hubOrigin(source: HubSource, settings: HubSettings, idleMs: number): Origin {
  const label = describeSource(source);
  const endpoint = new URL(settings.endpoint);
  const { repo, revision, path } = source;
  let commit = revision;

  const get = (url: URL, headers: Record<string, string>, signal: AbortSignal) =>
    httpGet(url, {
      headers,
      signal,
      idleMs,
      // Weights lie with the hub's storage providers, whose names change; httpGet refuses private addresses.
      checkRedirect: () => {},
      mayBePrivate: (to) => to.hostname === endpoint.hostname,
    });
  const access = (url: URL): Record<string, string> =>
    settings.token === undefined || url.origin !== endpoint.origin ? {} : { authorization: `Bearer ${settings.token}` };

  /** What the hub's library takes as `fetch`. */
  const guardedFetch =
    (signal: AbortSignal): typeof fetch =>
    async (input, init) => {
      const url = new URL(input instanceof Request ? input.url : input);
      const headers = { ...Object.fromEntries(new Headers(init?.headers)), ...access(url) };
      const { status, headers: answered, body } = await get(url, headers, signal);
      return new Response(Readable.toWeb(body) as ReadableStream as ConstructorParameters<typeof Response>[0], {
        status,
        headers: Object.entries(answered).flatMap(([name, value]): [string, string][] =>
          value === undefined ? [] : [[name, Array.isArray(value) ? value.join(', ') : value]],
        ),
      });
    };

  function failure(thrown: unknown, signal: AbortSignal): unknown {
    if (signal.aborted) return signal.reason;
    if (thrown instanceof AppError) return thrown;
    if (thrown instanceof HubApiError) return statusFailure(thrown.statusCode);
    return unavailable(endpoint, `an answer for ${repo} could not be read`);
  }

  function statusFailure(status: number, retryAfterMs?: number): AppError {
    if (isPassingStatus(status)) return unavailable(endpoint, `answered ${status} for ${repo}`, retryAfterMs);
    return new AppError('ADAPTER_SOURCE_INVALID', `${label}: the hub answered ${status}${hintFor(status)}`);
  }

  function hintFor(status: number): string {
    if (status === 404) return ': there is no such repository, revision or folder';
    if (status !== 401 && status !== 403) return '';
    if (settings.token === undefined) return ': it does not exist, or needs a token (HF_TOKEN)';
    return ': the token (HF_TOKEN) has no access';
  }

  return {
    label,
    async list(signal) {
      try {
        const fetch = guardedFetch(signal);
        const common = { hubUrl: endpoint.href.replace(/\/$/, ''), fetch };
        const info = await modelInfo({ name: repo, revision, additionalFields: ['sha'], ...common });
        commit = info.sha;
        const files: RemoteFile[] = [];
        const isFile = /\.gguf$/i.test(path);
        const folder = isFile ? path.slice(0, Math.max(0, path.lastIndexOf('/'))) : path;
        const listing = listFiles({
          repo: { type: 'model', name: repo },
          recursive: true,
          revision: commit,
          ...(folder === '' ? {} : { path: folder }),
          ...common,
        });
        for await (const entry of listing) {
          if (entry.type !== 'file' || (isFile && entry.path !== path)) continue;
          const { lfs, oid } = entry;
          files.push({
            path: folder === '' ? entry.path : entry.path.slice(folder.length + 1),
            size: lfs?.size ?? entry.size,
            version: lfs?.oid ?? oid ?? commit,
            digests: lfs === undefined ? { gitSha1: oid } : { sha256: lfs.oid },
          });
          if (files.length > MAX_FILES) {
            throw new AppError('SOURCE_TOO_LARGE', `${label}: more than ${MAX_FILES} files lie there`);
          }
        }
        return files;
      } catch (error) {
        throw failure(error, signal);
      }
    },
    async open(file, offset, signal) {
      const folder = /\.gguf$/i.test(path) ? path.slice(0, Math.max(0, path.lastIndexOf('/'))) : path;
      const inside = [...(folder === '' ? [] : folder.split('/')), ...file.path.split('/')];
      const place = inside.map(encodeURIComponent).join('/');
      const url = new URL(`${endpoint.href.replace(/\/$/, '')}/${repo}/resolve/${encodeURIComponent(commit)}/${place}`);
      const { status, headers, body } = await get(
        url,
        {
          'accept-encoding': 'identity',
          ...access(url),
          ...(offset > 0 ? { range: `bytes=${offset}-` } : {}),
        },
        signal,
      );
      if (status === 200 || status === 206) return { body, offset: status === 206 ? offset : 0 };
      body.destroy();
      throw statusFailure(status, retryAfterOf(headers));
    },
  };
}
