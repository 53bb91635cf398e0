/** Opens the registry where the configuration says. */
import { MemoryStore } from './memory-store.js';
import { openPostgres } from './open-postgres.js';
import { openSqlite } from './open-sqlite.js';
import type { RegistryStore } from './types.js';

/** Where the registry is kept. */
export type RegistryPlace =
  | { readonly kind: 'memory' }
  | { readonly kind: 'folder'; readonly dir: string }
  | { readonly kind: 'postgres'; readonly url: string };

/**
 * @param onError told of failures that heal by themselves, such as a lost connection
 * @throws AppError REGISTRY_UNAVAILABLE
 */
export async function openRegistry(place: RegistryPlace, onError: (error: unknown) => void): Promise<RegistryStore> {
  if (place.kind === 'memory') return new MemoryStore();
  return place.kind === 'postgres' ? openPostgres(place.url, onError) : openSqlite(place.dir, onError);
}
