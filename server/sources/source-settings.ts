/** What the resolver of sources is started with. */
import type { HubSettings } from './hub-origin.js';
import { RETRY, type RetryPolicy } from './retry.js';
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
  /** Default {@link RETRY}. */
  readonly retry?: RetryPolicy | undefined;
}

/** Where the environment of Hugging Face's and Amazon's tools says what the flags do not. */
export interface SourceEnvironment {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Home folder of the user. */
  readonly home: string;
}

/** The values of flags that concern sources. */
export interface SourceFlags {
  readonly allowSource: readonly string[];
  readonly cacheDir: string | undefined;
  readonly cacheBytes: number;
  readonly sourceBytes: number;
  readonly sourceTimeoutMs: number;
  readonly s3Endpoint: string | undefined;
  readonly s3Region: string | undefined;
  readonly s3PathStyle: boolean;
  readonly hubEndpoint: string | undefined;
}

const IDLE_MS = 30_000;

/** Puts flags and the tools' own variables together; relative folders begin at `cwd`. */
export function sourceSettings(
  flags: SourceFlags,
  { env, home }: SourceEnvironment,
  join: (...parts: string[]) => string,
): SourceSettings {
  const value = (name: string) => (env[name] === '' ? undefined : env[name]);
  const hfHome = value('HF_HOME') ?? join(value('XDG_CACHE_HOME') ?? join(home, '.cache'), 'huggingface');
  return {
    cacheDir: flags.cacheDir ?? join(value('XDG_CACHE_HOME') ?? join(home, '.cache'), 'loramux'),
    cacheBytes: flags.cacheBytes,
    maxBytes: flags.sourceBytes,
    allow: flags.allowSource,
    timeoutMs: flags.sourceTimeoutMs,
    idleMs: Math.min(IDLE_MS, flags.sourceTimeoutMs),
    s3: {
      endpoint: flags.s3Endpoint,
      region: flags.s3Region,
      // Other S3 servers rarely have a host name for each bucket.
      pathStyle: flags.s3PathStyle || flags.s3Endpoint !== undefined,
    },
    hub: { endpoint: flags.hubEndpoint ?? value('HF_ENDPOINT') ?? 'https://huggingface.co', token: value('HF_TOKEN') },
    hubCache: value('HF_HUB_CACHE') ?? join(hfHome, 'hub'),
    retry: RETRY,
  };
}
