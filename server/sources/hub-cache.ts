/**
 * The cache that Hugging Face's own tools keep on this machine. What is whole there is read in place, without asking the
 * hub: `models--org--name/refs/<revision>` names a commit, `snapshots/<commit>/` has its files.
 */
import { readdir, stat } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { readRegular } from '../regular-file.js';
import type { HubSource } from './source.js';
import { entryOf, type SourceKind, wantedFiles } from './wanted-files.js';

/** A repository found in the local cache. */
export interface CachedRepository {
  /** Folder (or file) that the source names. */
  readonly path: string;
  /** Folder that its symbolic links stay in. */
  readonly root: string;
  readonly commit: string;
}

const COMMIT = /^[0-9a-f]{40}$/;

/** Finds a source in the local cache; undefined where it is not there, or not all of it. */
export async function findInHubCache(
  source: HubSource,
  kind: SourceKind,
  cacheFolder: string,
): Promise<CachedRepository | undefined> {
  const root = join(cacheFolder, `models--${source.repo.replace('/', '--')}`);
  const commit = COMMIT.test(source.revision)
    ? source.revision
    : (await readRegular(join(root, 'refs', source.revision)).catch(() => '')).toString().trim();
  if (!COMMIT.test(commit)) return undefined;
  const folder = join(root, 'snapshots', commit);
  const path = source.path === '' ? folder : join(folder, source.path);
  try {
    if ((await stat(path)).isFile()) return { path, root, commit };
    const names = await readdir(path, { recursive: true, withFileTypes: true });
    const files = await Promise.all(
      names
        .filter((entry) => !entry.isDirectory())
        .map(async (entry) => {
          const place = join(entry.parentPath, entry.name);
          // Following the link: a snapshot whose blob is gone is not whole.
          return { path: relative(path, place).replaceAll('\\', '/'), size: (await stat(place)).size };
        }),
    );
    const wanted = wantedFiles(files, kind, source.repo);
    const entry = entryOf(wanted, kind);
    return (await hasAllShards(path, wanted)) ? { path: join(path, entry), root, commit } : undefined;
  } catch {
    return undefined;
  }
}

/** True where each index names only shards that are there, and there are weights at all. */
async function hasAllShards(folder: string, files: readonly { readonly path: string }[]): Promise<boolean> {
  const there = new Set(files.map(({ path }) => path));
  if (![...there].some((path) => /\.(safetensors|gguf)$/i.test(path))) return false;
  for (const path of there) {
    if (!path.endsWith('.index.json')) continue;
    const { weight_map: map } = JSON.parse((await readRegular(join(folder, path))).toString()) as {
      weight_map?: Record<string, string>;
    };
    const before = path.slice(0, path.lastIndexOf('/') + 1);
    if (Object.values(map ?? {}).some((shard) => !there.has(before + shard))) return false;
  }
  return true;
}
