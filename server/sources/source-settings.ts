/** What the resolver of sources is started with. */
import type { HubSettings } from './hub-origin.js';
import type { RetryPolicy } from './retry.js';
import type { S3Settings } from './s3-origin.js';

/** Settings of remote sources; see docs/sources.md. */
export interface SourceSettings {
  /** Folder of the cache; remote files lie in its subfolder `sources`. */
  readonly cacheDir: string;
  /** Most bytes of the cache of remote files. */
  readonly cacheBytes: number;
  /** Most bytes of one source. */
  readonly maxBytes: number;
  /** Patterns of sources that may be registered; none = no remote source. */
  readonly allow: readonly string[];
  /** Longest time for bringing one source here, in milliseconds. */
  readonly timeoutMs: number;
  /** Longest silence of an origin, in milliseconds. */
  readonly idleMs: number;
  readonly s3: S3Settings;
  readonly hub: HubSettings;
  /** Folder of Hugging Face's own cache, read first; undefined = none. */
  readonly hubCache?: string | undefined;
  /** Default: see ./retry.ts. */
  readonly retry?: RetryPolicy | undefined;
}
