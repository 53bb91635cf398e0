/** Where the registry is kept, from the settings. */
import { createHash } from 'node:crypto';
import path from 'node:path';
import type { RegistryPlace } from '../registry/open-registry.js';
import { ConfigError } from './config-error.js';
import { userFolder } from './user-folders.js';

/** What the place depends on. */
export interface RegistryWish {
  /** `--state-dir`, `--registry` as given. */
  readonly stateDir: string | undefined;
  readonly registry: string | undefined;
  readonly port: number;
  /** The first model, by name and path; undefined for the embedded demo. */
  readonly model: { readonly name: string; readonly path: string } | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
}

/**
 * The folder for what a server keeps; undefined = nothing is kept. Without `--state-dir` it is the user's state folder,
 * one for each port and first model, so that servers beside one another share nothing. The demo and a server on a random
 * port keep nothing: the one is for trying, the other could not be found again.
 */
export function stateFolder(wish: Omit<RegistryWish, 'registry'>): string | undefined {
  const { stateDir, port, model, env, cwd } = wish;
  if (stateDir === 'none') return undefined;
  if (stateDir !== undefined) return path.resolve(cwd, stateDir);
  const home = userFolder(env, 'XDG_STATE_HOME');
  if (model === undefined || port === 0 || home === undefined) return undefined;
  const id = createHash('sha256').update(path.resolve(model.path)).digest('hex').slice(0, 8);
  return path.join(home, 'loramux', `${port}-${model.name}-${id}`);
}

/** @throws ConfigError for a `--registry` that is no Postgres URL */
export function registryPlace(wish: RegistryWish): RegistryPlace {
  const { registry } = wish;
  if (registry !== undefined) {
    if (!/^postgres(ql)?:\/\/[^/]/.test(registry) || !URL.canParse(registry)) {
      throw new ConfigError('--registry must be a Postgres URL, such as postgres://user@host:5432/database');
    }
    return { kind: 'postgres', url: registry };
  }
  const dir = stateFolder(wish);
  return dir === undefined ? { kind: 'memory' } : { kind: 'folder', dir };
}
