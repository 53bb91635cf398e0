/** Opens the registry where the configuration says. */
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
export function openRegistry(place: RegistryPlace, onError: (error: unknown) => void): Promise<RegistryStore> {
  if (place.kind === 'postgres') return openPostgres(place.url, onError);
  return openSqlite(place.kind === 'folder' ? place.dir : undefined, onError);
}
