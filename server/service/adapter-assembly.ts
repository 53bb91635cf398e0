/** Puts the parts of adapter management together: who tells whom of what. */

import type { AdapterEntry } from '../adapters/adapter-entry.js';
import { type AdapterReader, createAdapterReader } from '../adapters/adapter-reader.js';
import type { AdapterRegistry } from '../adapters/registry.js';
import { Residency } from '../adapters/residency.js';
import { MemoryStore } from '../registry/memory-store.js';
import type { RegistryStore } from '../registry/types.js';
import { localSources, type SourceResolver } from '../sources/source-resolver.js';
import { AdapterBook } from './adapter-book.js';
import type { AdapterCode } from './adapter-code.js';
import { type AdapterCore, type AdapterLog, infoOf } from './adapter-core.js';
import { AdapterJournal } from './adapter-journal.js';
import { AdapterLoader } from './adapter-loader.js';
import { type ServedModel, ServedModels } from './served-models.js';

/** What the service is made of. */
export interface AdapterServiceOptions {
  /** The models at the start; `Adapters.addModel` adds more. */
  readonly models: ReadonlyMap<string, ServedModel>;
  /** The model of requests that name none; absent = the only one there is. */
  readonly defaultModel?: (() => string | undefined) | undefined;
  /** Folders that adapters may be registered from, links followed. */
  readonly allowedRoots: readonly string[];
  /** Most bytes of adapter weights in all engines together; default no limit. */
  readonly byteBudget?: number | undefined;
  readonly log: AdapterLog;
  /** How adapters are read; default: worker threads, two at a time. */
  readonly reader?: AdapterReader | undefined;
  /** How long rows wait for memory that other rows use, in milliseconds; default 60 000. */
  readonly roomWaitMs?: number | undefined;
  /** How many adapters may wait for such memory at once; default 1000. */
  readonly maxWaiting?: number | undefined;
  /** Milliseconds, for what loading an adapter costs; default: the process's clock. */
  readonly now?: (() => number) | undefined;
  /** Brings remote sources here; default: only folders can be used. The service does not close it. */
  readonly sources?: SourceResolver | undefined;
  /** Where names are kept; default: nowhere. The service does not close it. */
  readonly store?: RegistryStore | undefined;
  /** Runs code that adapters bring; default: none is run. */
  readonly code?: AdapterCode | undefined;
  /** What else answers with an adapter, as workflows do: it cannot be deleted meanwhile; default: nothing. */
  readonly usersOf?: ((adapter: { readonly model: string; readonly name: string }) => readonly string[]) | undefined;
  /** 0 <= x < 1, for aliases of several targets. */
  readonly random?: (() => number) | undefined;
}

/** How long a row waits for others' adapters to leave the memory: a few long answers. */
const ROOM_WAIT_MS = 60_000;

/**
 * The shared parts.
 * @param served the models, live
 * @param registries their names, live
 * @param keepDigest puts the digest of a stored entry into the store, where it was read for the first time
 */
export function assembleCore(
  options: AdapterServiceOptions,
  served: ReadonlyMap<string, ServedModel>,
  registries: ReadonlyMap<string, AdapterRegistry>,
  keepDigest: (entry: AdapterEntry) => void,
): AdapterCore {
  const { log, sources = localSources(), roomWaitMs = ROOM_WAIT_MS } = options;
  const residency = new Residency(
    options.byteBudget ?? Number.POSITIVE_INFINITY,
    (error) => log.warn({ err: error }, 'unloading an adapter failed'),
    options.maxWaiting,
  );
  const reader = options.reader ?? createAdapterReader({ ready: true });
  const journal = new AdapterJournal({
    has: (model, name) => registries.get(model)?.has(name) === true,
    info: (model, name) => {
      const registry = registries.get(model);
      const entry = registry?.get(name);
      if (entry !== undefined) return { adapter: infoOf(core, entry) };
      const alias = registry?.alias(name);
      return alias && { alias: { ...alias, model } };
    },
  });
  const loader = new AdapterLoader(
    { models: served, reader, residency, sources, roomWaitMs, now: options.now },
    {
      onChange: ({ model, name, state }) => {
        if (state === 'registered') journal.changed(model, name);
      },
      onDigest: (entry) => {
        registries.get(entry.model)?.noteContent(entry);
        if (entry.revision > 0) keepDigest(entry);
      },
      onContent: (pool, digest) => {
        for (const [model, registry] of registries) {
          for (const name of registry.namesOf(pool, digest)) journal.changed(model, name);
        }
      },
    },
  );
  const core: AdapterCore = {
    ...{ residency, reader, loader, journal, log, registries, sources },
    models: new ServedModels(served, options.defaultModel),
    allowedRoots: options.allowedRoots,
    book: new AdapterBook(options.store ?? new MemoryStore()),
    code: options.code,
    usersOf: options.usersOf ?? (() => []),
    random: options.random ?? Math.random,
  };
  return core;
}
