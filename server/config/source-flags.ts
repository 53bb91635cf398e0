/** The settings of remote sources: flags first, then the variables that Amazon's and Hugging Face's own tools read. */
import path from 'node:path';
import { SourceRules } from '../sources/source-rules.js';
import type { SourceSettings } from '../sources/source-settings.js';
import { ConfigError } from './config-error.js';
import type { SettingValues } from './settings.js';
import { userFolder } from './user-folders.js';

/** Flags that end up in {@link SourceSettings}. */
export type SourceFlag =
  | 'allowSource'
  | 'cacheDir'
  | 'cacheBytes'
  | 'sourceBytes'
  | 'sourceTimeoutMs'
  | 's3Endpoint'
  | 's3Region'
  | 's3Addressing'
  | 'hubEndpoint';

/** Longest silence of an origin, in milliseconds. */
const IDLE_MS = 30_000;

/** @throws ConfigError for patterns and URLs that make no sense */
export function sourceSettings(
  flags: Pick<SettingValues, SourceFlag>,
  { env, cwd }: { readonly env: Readonly<Record<string, string | undefined>>; readonly cwd: string },
): SourceSettings {
  const value = (name: string) => (env[name] === '' ? undefined : env[name]);
  try {
    new SourceRules(flags.allowSource);
  } catch (error) {
    throw new ConfigError(`--allow-source ${(error as Error).message}`, { cause: error });
  }
  const userCache = userFolder(env, 'XDG_CACHE_HOME') ?? path.join(cwd, '.cache');
  const endpoint = flags.s3Endpoint ?? value('AWS_ENDPOINT_URL_S3') ?? value('AWS_ENDPOINT_URL');
  const hub = flags.hubEndpoint ?? value('HF_ENDPOINT') ?? 'https://huggingface.co';
  return {
    cacheDir: flags.cacheDir === undefined ? path.join(userCache, 'loramux') : path.resolve(cwd, flags.cacheDir),
    cacheBytes: flags.cacheBytes,
    maxBytes: flags.sourceBytes,
    allow: flags.allowSource,
    timeoutMs: flags.sourceTimeoutMs,
    idleMs: Math.min(IDLE_MS, flags.sourceTimeoutMs),
    s3: {
      endpoint: endpoint === undefined ? undefined : webAddress('--s3-endpoint', endpoint),
      region: flags.s3Region,
      // Other S3 servers rarely have a host name for each bucket.
      pathStyle: flags.s3Addressing === 'auto' ? endpoint !== undefined : flags.s3Addressing === 'path',
    },
    hub: { endpoint: webAddress('--hub-endpoint', hub), token: value('HF_TOKEN') },
    hubCache: value('HF_HUB_CACHE') ?? path.join(value('HF_HOME') ?? path.join(userCache, 'huggingface'), 'hub'),
  };
}

function webAddress(flag: string, given: string): string {
  const url = URL.canParse(given) ? new URL(given) : undefined;
  if (url !== undefined && /^https?:$/.test(url.protocol) && url.username === '' && url.search === '') return given;
  throw new ConfigError(`${flag} must be an http: or https: URL without user information and query`);
}
