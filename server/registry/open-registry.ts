/** Opens the registry where the configuration says. */
import { MemoryStore } from './memory-store.js';
import { OpeningStore } from './opening-store.js';
import type { RegistryNews } from './reachability.js';
import type { RegistryStore } from './types.js';

/** Where the registry is kept. */
export type RegistryPlace =
  | { readonly kind: 'memory' }
  | { readonly kind: 'folder'; readonly dir: string }
  | { readonly kind: 'postgres'; readonly url: string };

/** A registry that can be used at once; {@link RegistryStore} methods wait until it is open. */
export interface OpeningRegistry extends RegistryStore {
  /** Resolves when it is open. Throws AppError REGISTRY_UNAVAILABLE. */
  opened(): Promise<void>;
}

/**
 * Begins to open it. The libraries of databases take their time to load: only what needs the registry waits for them.
 * @param news told of failures that heal by themselves, such as a lost connection
 */
export function openRegistry(place: RegistryPlace, news: RegistryNews): OpeningRegistry {
  if (place.kind === 'memory') return Object.assign(new MemoryStore(), { opened: async () => {} });
  return new OpeningStore(open(place, news));
}

async function open(place: Exclude<RegistryPlace, { kind: 'memory' }>, news: RegistryNews): Promise<RegistryStore> {
  if (place.kind === 'folder') return (await import('./open-sqlite.js')).openSqlite(place.dir, news);
  return (await import('./open-postgres.js')).openPostgres(place.url, news);
}
