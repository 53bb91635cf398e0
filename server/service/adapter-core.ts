/** What the parts of adapter management share: models, names, memory, the stored side, and who is told. */

import { type AdapterEntry, digestOf } from '../adapters/adapter-entry.js';
import { checkAdapterName } from '../adapters/adapter-names.js';
import type { AdapterReader } from '../adapters/adapter-reader.js';
import type { AdapterRegistry } from '../adapters/registry.js';
import type { Residency } from '../adapters/residency.js';
import { openAdapterFolder, sourcePath } from '../adapters/source.js';
import { AppError } from '../errors.js';
import { isRemoteUri } from '../sources/source.js';
import type { SourceResolver } from '../sources/source-resolver.js';
import type { AdapterBook } from './adapter-book.js';
import { type AdapterCode, codeRefusal } from './adapter-code.js';
import { adapterInfo } from './adapter-info.js';
import type { AdapterJournal } from './adapter-journal.js';
import type { AdapterLoader } from './adapter-loader.js';
import { type AdapterRecord, versionsOf } from './adapter-records.js';
import { noVersion } from './adapter-versions.js';
import { modelGone } from './model-refusals.js';
import type { ServedModels } from './served-models.js';
import type { AdapterInfo } from './types.js';

/** The part of a logger that is used; pino's loggers have it. */
export interface AdapterLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

/** The shared parts. */
export interface AdapterCore {
  readonly models: ServedModels;
  /** By model; live. */
  readonly registries: ReadonlyMap<string, AdapterRegistry>;
  /** Folders that adapters may be read from. */
  readonly allowedRoots: readonly string[];
  /** Brings sources to this machine. */
  readonly sources: SourceResolver;
  readonly residency: Residency;
  readonly reader: AdapterReader;
  readonly loader: AdapterLoader;
  readonly book: AdapterBook;
  readonly journal: AdapterJournal;
  readonly log: AdapterLog;
  /** Runs modules of adapters; absent = none is run. */
  readonly code?: AdapterCode | undefined;
  /** Ids of the workflows that answer with an adapter. */
  readonly usersOf: (adapter: { readonly model: string; readonly name: string }) => readonly string[];
  /** 0 <= x < 1, for aliases. */
  readonly random: () => number;
}

/** What an entry is made from, besides its model and name. */
export type EntryFacts = Pick<AdapterEntry, 'source' | 'preload' | 'pin'> &
  Partial<
    Pick<
      AdapterEntry,
      | 'folder'
      | 'roots'
      | 'digest'
      | 'snapshot'
      | 'options'
      | 'createdAt'
      | 'updatedAt'
      | 'versions'
      | 'revision'
      | 'fromFolder'
      | 'workflow'
      | 'usage'
    >
  >;

/**
 * A new entry that no name points to yet.
 * @throws AppError ADAPTER_SOURCE_INVALID for a source of no known form
 */
export function newEntry(core: AdapterCore, model: string, name: string, facts: EntryFacts): AdapterEntry {
  const served = core.models.withLora(model);
  const now = Date.now();
  return {
    digest: '',
    options: {},
    createdAt: now,
    updatedAt: now,
    versions: [],
    revision: 0,
    fromFolder: false,
    usage: { runningRows: 0 },
    roots: core.allowedRoots,
    ...facts,
    folder: facts.folder ?? (isRemoteUri(facts.source) ? '' : sourcePath(facts.source, served.modelDir)),
    model,
    pool: served.pool ?? model,
    name,
    state: 'new',
    retained: false,
  };
}

/**
 * Checks without any network that a new entry's source may be used.
 * @throws AppError ADAPTER_SOURCE_INVALID, ADAPTER_SOURCE_FORBIDDEN
 */
export async function checkSource(core: AdapterCore, entry: AdapterEntry): Promise<void> {
  const base = core.models.withLora(entry.model).modelDir;
  const { source, roots, options } = entry;
  const checked = await core.sources.check({ source, base, roots, sha256: options.sha256 });
  if (checked.kind === 'folder') await openAdapterFolder(checked.path, roots);
}

/** The entry of a stored record. */
export function entryOfRecord(
  core: AdapterCore,
  model: string,
  name: string,
  record: AdapterRecord & { type: 'adapter' },
  revision: number,
  before?: AdapterEntry,
): AdapterEntry {
  const { type: _, ...facts } = record;
  const entry = newEntry(core, model, name, { ...facts, revision, ...(before && { usage: before.usage }) });
  if (before !== undefined && record.digest !== '' && digestOf(before) === record.digest) {
    entry.summary = before.summary;
    entry.loadedAt = before.loadedAt;
  }
  return entry;
}

/** An entry for a version that its name no longer points to. */
export function entryOfVersion(core: AdapterCore, current: AdapterEntry, digest: string): AdapterEntry {
  const version = versionsOf(current).find((one) => one.digest === digest);
  if (version === undefined) throw noVersion(current, digest);
  const { model, name, preload, pin, options, createdAt, fromFolder, usage } = current;
  const kept = { preload, pin, options, createdAt, fromFolder, usage };
  const { versions, revision } = current;
  return newEntry(core, model, name, {
    ...kept,
    versions,
    revision,
    source: version.source,
    snapshot: version.snapshot,
    digest,
  });
}

/** Makes a name point to an entry, frees what it pointed to, and tells watchers. */
export function point(core: AdapterCore, registry: AdapterRegistry, entry: AdapterEntry): void {
  const before = registry.put(entry);
  // Equal weights are tied to the new entry before the old one lets go of them, unless they are to leave the memory.
  const unload = before?.preload === true && !entry.preload;
  if (!unload) core.loader.retain(entry);
  if (before !== undefined) core.loader.forget(before);
  core.loader.retain(entry);
  freeUnused(core, registry);
  core.journal.changed(entry.model, entry.name);
}

/** Frees versions that no alias leads to any more. */
export function freeUnused(core: AdapterCore, registry: AdapterRegistry): void {
  for (const dropped of registry.dropUnused()) core.loader.forget(dropped);
}

/** The names of a model. */
export function registryOf(core: AdapterCore, model: string): AdapterRegistry {
  const registry = core.registries.get(model);
  if (registry === undefined) throw modelGone(model);
  return registry;
}

/** Throws MODEL_NOT_FOUND where the model went since its names were these, though another may have come by its name. */
export function requireSame(core: AdapterCore, model: string, registry: AdapterRegistry): void {
  if (core.registries.get(model) !== registry) throw modelGone(model);
}

/** The entry of a name. Throws ADAPTER_NOT_FOUND with near names. */
export function findEntry(core: AdapterCore, model: string, name: string): AdapterEntry {
  const entry = registryOf(core, model).get(name.normalize('NFC'));
  if (entry !== undefined) return entry;
  throw notFound(core, model, name);
}

/** ADAPTER_NOT_FOUND, with near names. */
export function notFound(core: AdapterCore, model: string, name: string): AppError {
  const registry = registryOf(core, model);
  if (registry.alias(name.normalize('NFC')) !== undefined) {
    return new AppError('ADAPTER_NOT_FOUND', `${JSON.stringify(name)} is an alias, not an adapter`, {
      metadata: { adapter: name, model },
    });
  }
  const near = registry.near(name);
  const hint = near.length === 0 ? '' : `; near names: ${near.map((one) => JSON.stringify(one)).join(', ')}`;
  return new AppError('ADAPTER_NOT_FOUND', `no adapter ${JSON.stringify(name)} is registered${hint}`, {
    metadata: { adapter: name, model, ...(near.length > 0 ? { near: near.join(',') } : {}) },
  });
}

/** ADAPTER_EXISTS, of an adapter or an alias. */
export function exists(model: string, name: string, registry: AdapterRegistry): AppError {
  const what = registry.alias(name) === undefined ? 'an adapter' : 'an alias';
  return new AppError('ADAPTER_EXISTS', `${what} ${JSON.stringify(name)} is registered already`, {
    metadata: { adapter: name, model },
  });
}

/** The one form of a new name. Throws INVALID_REQUEST. */
export function checkedName(name: string, what: string): string {
  const checked = checkAdapterName(name);
  if ('name' in checked) return checked.name;
  throw new AppError('INVALID_REQUEST', `the name of the ${what} ${checked.wrong}`, {
    violations: [{ field: 'name', description: checked.wrong }],
  });
}

/** Everything that is told of an entry. */
export function infoOf(core: AdapterCore, entry: AdapterEntry, versions = false): AdapterInfo {
  const { summary, pool } = entry;
  const bytes = summary === undefined ? 0 : core.residency.bytesOf({ pool, digest: summary.digest });
  const { module } = entry;
  const handler = module ? { file: module.file, refusal: codeRefusal(core.code, entry.model, module) } : undefined;
  return adapterInfo(entry, bytes, core.loader.isLoading(entry), versions, handler);
}
