/**
 * Brings a source to this machine: a local folder is checked and used where it is, a remote one is looked up in the
 * caches and downloaded if need be. The one entrance for adapters and for whole model folders.
 */
import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { S3Client } from '@aws-sdk/client-s3';
import { checkInside } from '../adapters/source.js';
import { AppError } from '../errors.js';
import { archiveOrigin } from './archive-origin.js';
import { cacheError } from './cache-error.js';
import { ContentCache, type HeldSnapshot } from './content-cache.js';
import { type FetchJob, fetchSnapshot, snapshotKey } from './fetch-snapshot.js';
import { findInHubCache } from './hub-cache.js';
import { type Origin, SourceChanged } from './origin.js';
import { RETRY, withRetry } from './retry.js';
import { SharedWork } from './shared-work.js';
import { describeSource, isHubId, parseHubId, parseSource, type RemoteSource, type Source } from './source.js';
import { SourceRules } from './source-rules.js';
import type { SourceSettings } from './source-settings.js';
import { entryOf, type SourceKind } from './wanted-files.js';

/** A source to open. */
export interface OpenRequest {
  /** Folder, `file:`, `s3://bucket/prefix`, `hf://org/name@revision/path`, `org/name` or `https://` archive. */
  readonly source: string;
  readonly kind: SourceKind;
  /** Folder that relative paths begin at. */
  readonly base: string;
  /** Folders that a local source must lie below, links followed; undefined = anywhere (the operator named it). */
  readonly roots?: readonly string[] | undefined;
  /** True: the operator named it at start, so that no --allow-source is needed. */
  readonly trusted?: boolean | undefined;
  /** SHA-256 of an archive, where the source does not carry it. */
  readonly sha256?: string | undefined;
  /** Snapshot of an earlier {@link LocalSource}: used without asking the origin while the cache has it. */
  readonly snapshot?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called while bytes arrive. */
  readonly onProgress?: ((progress: SourceProgress) => void) | undefined;
}

/** How far a download is. */
export interface SourceProgress {
  readonly bytes: number;
  readonly totalBytes: number;
}

/** A source that is on this machine. */
export interface LocalSource {
  /** Folder, or GGUF file, to read. */
  readonly path: string;
  /** Folders that its files must lie below after links are followed. */
  readonly roots: readonly string[];
  /** What was opened, without secrets; for a hub with the commit. */
  readonly label: string;
  /** Key of the content in the cache, see {@link OpenRequest.snapshot}; undefined for what lies outside of it. */
  readonly snapshot?: string | undefined;
  /** Lets the cache remove the files again; until then they stay. Idempotent. */
  release(): void;
}

/** Opens sources. */
export interface SourceResolver {
  /** The source's meaning; no network. Throws ADAPTER_SOURCE_INVALID, ADAPTER_SOURCE_FORBIDDEN. */
  check(request: Pick<OpenRequest, 'source' | 'base' | 'roots' | 'trusted' | 'sha256'>): Promise<Source>;
  /**
   * Brings a source here; opens of the same content at the same time are one download.
   * @throws AppError ADAPTER_SOURCE_INVALID, ADAPTER_SOURCE_FORBIDDEN, SOURCE_UNAVAILABLE, SOURCE_CORRUPT,
   * SOURCE_TOO_LARGE, SOURCE_CACHE_FULL; what the signal was aborted with
   */
  open(request: OpenRequest): Promise<LocalSource>;
  /** Forgets a snapshot, so that the next open downloads it again. */
  discard(snapshot: string): Promise<void>;
  /** Ends downloads under way; what they have stays and is continued later. Nothing is held any more. */
  close(): Promise<void>;
}

/** Makes the resolver. Throws an Error for patterns of `allow` that make no sense. */
export function createSourceResolver(settings: SourceSettings): SourceResolver {
  return new Resolver(settings);
}

/** A resolver for folders alone: every remote source is refused, so it needs no cache. */
export function localSources(): SourceResolver {
  const none = { cacheDir: '', cacheBytes: 0, maxBytes: 0, allow: [], timeoutMs: 0, idleMs: 0, s3: {} };
  return new Resolver({ ...none, hub: { endpoint: 'https://huggingface.co' } });
}

class Resolver implements SourceResolver {
  private readonly settings: SourceSettings;
  private readonly rules: SourceRules;
  private readonly cache: ContentCache;
  private readonly downloads = new SharedWork<void>();
  private readonly closing = new AbortController();
  private s3: S3Client | undefined;

  constructor(settings: SourceSettings) {
    this.settings = settings;
    this.rules = new SourceRules(settings.allow);
    this.cache = new ContentCache(join(settings.cacheDir, 'sources'), settings.cacheBytes);
  }

  async check({ source, base, roots, trusted, sha256 }: Parameters<SourceResolver['check']>[0]): Promise<Source> {
    const parsed = await this.parse(source, base, sha256, trusted === true);
    if (parsed.kind === 'folder') {
      if (roots !== undefined) await checkInside(parsed.path, roots);
    } else if (trusted !== true) this.rules.check(parsed);
    return parsed;
  }

  async open(request: OpenRequest): Promise<LocalSource> {
    const source = await this.check(request);
    const label = describeSource(source);
    if (source.kind === 'folder') {
      const { path } = source;
      return { path, roots: request.roots ?? [path], label, release: () => {} };
    }
    if (source.kind === 'hub' && request.snapshot === undefined && this.settings.hubCache !== undefined) {
      const found = await findInHubCache(source, request.kind, this.settings.hubCache);
      if (found !== undefined) {
        const pinned = describeSource({ ...source, revision: found.commit });
        return { path: found.path, roots: [found.root], label: pinned, release: () => {} };
      }
    }
    const deadline = AbortSignal.timeout(this.settings.timeoutMs);
    const signals = [deadline, this.closing.signal, ...(request.signal === undefined ? [] : [request.signal])];
    try {
      return await this.fetch(source, request, AbortSignal.any(signals));
    } catch (error) {
      if (this.closing.signal.aborted) throw new AppError('SHUTTING_DOWN', 'the server is shutting down');
      if (deadline.aborted && request.signal?.aborted !== true) {
        throw new AppError('SOURCE_UNAVAILABLE', `${label} was not here after ${this.settings.timeoutMs} ms`, {
          metadata: { timeoutMs: String(this.settings.timeoutMs) },
        });
      }
      request.signal?.throwIfAborted();
      throw cacheError(error);
    }
  }

  async discard(snapshot: string): Promise<void> {
    await this.cache.discard(snapshot);
  }

  async close(): Promise<void> {
    this.closing.abort(new AppError('SHUTTING_DOWN', 'the server is shutting down'));
    await this.downloads.settled();
    await this.cache.close();
    this.s3?.destroy();
  }

  /** A relative folder that is there wins over a hub's repository of the same name. */
  private async parse(text: string, base: string, sha256: string | undefined, trusted: boolean): Promise<Source> {
    const parsed = parseSource(text, base, sha256);
    if (parsed.kind !== 'folder' || !isHubId(text)) return parsed;
    if (await exists(parsed.path)) return parsed;
    const hub = parseHubId(text);
    return trusted || this.rules.allows(hub) ? hub : parsed;
  }

  /** The libraries of S3, of the hub and of archives take their time to load: only who needs them waits. */
  private async originOf(source: RemoteSource, trusted: boolean): Promise<Origin> {
    const { idleMs } = this.settings;
    switch (source.kind) {
      case 's3': {
        const { createS3Client, s3Origin } = await import('./s3-origin.js');
        this.s3 ??= createS3Client(this.settings.s3, idleMs);
        return s3Origin(source, this.s3);
      }
      case 'hub': {
        const { hubOrigin } = await import('./hub-origin.js');
        return hubOrigin(source, this.settings.hub, idleMs);
      }
      case 'archive':
        return archiveOrigin(source, this.rules, { idleMs, trusted });
    }
  }

  private async fetch(source: RemoteSource, request: OpenRequest, signal: AbortSignal): Promise<LocalSource> {
    await this.cache.prepare();
    const known = request.snapshot === undefined ? undefined : await this.cache.hold(request.snapshot);
    if (known !== undefined) return local(source, request.kind, request.snapshot!, known);
    const origin = await this.originOf(source, request.trusted === true);
    const { maxBytes, idleMs, retry = RETRY } = this.settings;
    const job: FetchJob = {
      origin,
      kind: request.kind,
      cache: this.cache,
      maxBytes,
      idleMs,
      retry,
    };
    for (let listings = 1; ; listings += 1) {
      try {
        return await this.fetchOnce(source, request, job, signal);
      } catch (error) {
        if (!(error instanceof SourceChanged)) throw error;
        if (listings >= retry.attempts) {
          throw new AppError('SOURCE_UNAVAILABLE', `${origin.label} changed while it was fetched, ${listings} times`);
        }
      }
    }
  }

  private async fetchOnce(
    source: RemoteSource,
    request: OpenRequest,
    job: FetchJob,
    signal: AbortSignal,
  ): Promise<LocalSource> {
    // An archive's name is its content: what is there needs no question.
    const files = source.kind === 'archive' ? [] : await withRetry(job.retry, signal, () => job.origin.list(signal));
    const key =
      source.kind === 'archive'
        ? createHash('sha256').update(`archive\0${job.kind}\0${source.sha256}`).digest('hex')
        : snapshotKey(job, files);
    const there = await this.cache.hold(key);
    if (there !== undefined) return local(source, job.kind, key, there);
    await this.downloads.run(key, signal, request.onProgress, async (own, onProgress) => {
      const running = { ...job, signal: own, onProgress };
      if (source.kind !== 'archive') return fetchSnapshot(files, key, running);
      const { fetchArchive } = await import('./fetch-archive.js');
      return fetchArchive(source, key, running);
    });
    const held = await this.cache.hold(key);
    if (held === undefined) {
      throw new AppError('SOURCE_UNAVAILABLE', `${job.origin.label}: it left the cache before it could be read`);
    }
    return local(source, job.kind, key, held);
  }
}

function local(source: RemoteSource, kind: SourceKind, key: string, held: HeldSnapshot): LocalSource {
  return {
    path: join(held.folder, entryOf(held.files, kind)),
    roots: [held.folder],
    label: describeSource(source),
    snapshot: key,
    release: held.release,
  };
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
