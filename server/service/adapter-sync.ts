/** Brings the names of this process in line with the registry: at start, and whenever another process changed them. */
import { readdir } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { AdapterEntry } from '../adapters/adapter-entry.js';
import { checkAdapterName } from '../adapters/adapter-names.js';
import { scanAdapterDirectory } from '../adapters/source.js';
import type { FollowedChange } from '../registry/types.js';
import { type AdapterCore, entryOfRecord, freeUnused, newEntry, point } from './adapter-core.js';
import { loadLater, noteModule } from './adapter-create.js';
import { ADAPTER_KIND, readRecord, recordOf } from './adapter-records.js';

/** Adapters read at once at start. */
const LOADS_AT_ONCE = 2;

/** What this process does by itself, for the log of changes. */
const SERVER = { actor: 'server', requestId: '' };

/** Keeps a process and the registry in line. */
export class AdapterSync {
  private readonly core: AdapterCore;
  private stopFollowing: (() => Promise<void>) | undefined;
  private starting: Promise<void> | undefined;

  constructor(core: AdapterCore) {
    this.core = core;
  }

  /** Registers what is stored for a model; nothing is loaded yet. Returns the new entries. */
  async restore(model: string): Promise<AdapterEntry[]> {
    await this.follow();
    const { book } = this.core;
    const { records } = await book.store.list(ADAPTER_KIND, model);
    const entries: AdapterEntry[] = [];
    for (const record of records) {
      await book.exclusive(model, record.name, async () => {
        const entry = this.apply(model, record.name, { record, revision: record.revision });
        if (entry !== undefined) entries.push(entry);
      });
    }
    return entries;
  }

  /** Registers the sub-folders of a directory whose names are not stored; nothing is loaded yet. */
  async scan(model: string, dir: string): Promise<AdapterEntry[]> {
    const { log, allowedRoots, registries } = this.core;
    const registry = registries.get(model);
    if (registry === undefined) return [];
    try {
      await readdir(dir);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== 'ENOENT')
        log.warn({ model, dir, code }, 'the folder of adapters cannot be read: none is registered');
      return [];
    }
    const { names, ignored } = await scanAdapterDirectory(dir);
    for (const entry of ignored)
      log.warn({ model, dir, entry }, 'not an adapter folder: ignored, as each sub-folder is one');
    const entries: AdapterEntry[] = [];
    for (const folder of names) {
      const checked = checkAdapterName(folder);
      const name = 'name' in checked ? checked.name : '';
      const path = resolve(dir, folder);
      if (registry.revisionOf(name) > 0) {
        const stored = registry.get(name);
        const why = stored === undefined ? 'it was unregistered, or an alias has its name' : 'it was changed since';
        if (stored?.source !== path) log.info({ model, dir, entry: folder }, `adapter folder not taken: ${why}`);
        continue;
      }
      if ('wrong' in checked || !registry.reserve(name)) {
        const why = 'wrong' in checked ? `its name ${checked.wrong}` : 'an adapter of that name is registered already';
        log.warn({ model, dir, entry: folder }, `adapter folder ignored: ${why}`);
        continue;
      }
      const roots = [...allowedRoots, dir];
      const facts = { source: path, folder: path, roots, preload: true, pin: false, fromFolder: true };
      const entry = newEntry(this.core, model, name, facts);
      point(this.core, registry, entry);
      registry.unreserve(name);
      entries.push(entry);
    }
    return entries;
  }

  /** Loads the pinned ones, then the others that are to be preloaded, while the budget lasts. */
  async load(entries: readonly AdapterEntry[]): Promise<void> {
    const wanted = entries.filter(({ preload }) => preload);
    await this.loadAll(wanted.filter(({ pin }) => pin));
    await this.loadAll(wanted.filter(({ pin }) => !pin));
  }

  private async loadAll(entries: readonly AdapterEntry[]): Promise<void> {
    const queue = [...entries];
    let full = false;
    const left: AdapterEntry[] = [];
    const leave = (entry: AdapterEntry) => void left.push(entry);
    const work = async () => {
      for (let entry = queue.shift(); entry !== undefined; entry = queue.shift()) {
        // Where nothing fits any more, those whose digest is known need not be read either: their first use does it.
        if (full && !entry.pin && entry.digest !== '') {
          leave(entry);
          continue;
        }
        const onFull = entry.pin ? undefined : leave;
        const error = await loadLater(this.core, entry, { evict: false, onFull });
        full ||= error?.reason === 'ADAPTER_MEMORY_EXHAUSTED';
        for (const warning of entry.summary?.warnings ?? []) {
          this.core.log.warn({ model: entry.model, adapter: entry.name }, warning);
        }
        noteModule(this.core, entry);
      }
    };
    await Promise.all(Array.from({ length: LOADS_AT_ONCE }, work));
    this.tellLeft(left);
  }

  /** One line for all that a full memory keeps out: of thousands, a line each would hide every other. */
  private tellLeft(left: readonly AdapterEntry[]): void {
    const [first] = left;
    if (first === undefined) return;
    const some = left.slice(0, 3).map(({ name }) => JSON.stringify(name));
    const names = `${some.join(', ')}${left.length > some.length ? ', ...' : ''}`;
    const { budget } = this.core.residency;
    this.core.log.info(
      { model: first.model, adapters: left.length },
      `the memory for adapters, ${budget} bytes (--adapter-bytes), is full; loaded when a request needs them: ${left.length} (${names})`,
    );
  }

  /** Takes over what the registry has of a name. */
  async refresh(model: string, name: string): Promise<void> {
    const { book } = this.core;
    await book.exclusive(model, name, async () => {
      // Whatever is stored counts, even if this process believed it knew something later.
      this.take(model, name, { record: await book.get(model, name), revision: Number.POSITIVE_INFINITY });
    });
  }

  /** Keeps the digest of a content that nobody had read when its name was registered. */
  async keepDigest(entry: AdapterEntry): Promise<void> {
    const { book, journal, registries, log } = this.core;
    const { model, name } = entry;
    const write = async (): Promise<void> => {
      const registry = registries.get(model);
      if (registry === undefined || registry.get(name) !== entry || entry.revision === 0) return;
      const record = recordOf(entry);
      const note = { action: 'read', digestAfter: record.digest };
      entry.revision = await book.commit(registry, entry, record, note, SERVER);
      entry.versions = record.versions;
      journal.changed(model, name);
    };
    try {
      await book.exclusive(model, name, write);
    } catch (error) {
      // Another process was first, or the registry is away: the next one to read the content tries again.
      log.warn({ model, adapter: name, err: error }, 'the digest could not be kept');
    }
  }

  /** Applies what other processes change from now on. */
  private follow(): Promise<void> {
    this.starting ??= this.startFollowing();
    return this.starting;
  }

  private async startFollowing(): Promise<void> {
    const { store } = this.core.book;
    const { revision } = await store.list(ADAPTER_KIND, '');
    this.stopFollowing = store.follow(revision, (changes) => this.applyAll(changes));
  }

  async close(): Promise<void> {
    await this.stopFollowing?.();
  }

  private async applyAll(changes: readonly FollowedChange[]): Promise<void> {
    const { book, registries } = this.core;
    for (const change of changes) {
      const { kind, scope: model, name } = change.key;
      const revision = registries.get(model)?.revisionOf(name);
      if (kind !== ADAPTER_KIND || revision === undefined) continue;
      // What this process did itself: changes of names that are being changed here must not hold up all others.
      if (change.revision <= revision || (revision === 0 && change.record === undefined)) continue;
      await book.exclusive(model, name, async () => {
        // What was deleted here after it was looked up has no revision any more to compare with.
        if (registries.get(model)?.wasRemoved(name) && change.record !== undefined) {
          const now = await book.get(model, name);
          if (now?.revision !== change.record.revision) return;
        }
        this.take(model, name, change);
      });
    }
    // What is looked up from now on is later than that.
    for (const registry of registries.values()) registry.forgetRemoved();
  }

  private take(model: string, name: string, change: Pick<FollowedChange, 'record' | 'revision'>): void {
    const entry = this.apply(model, name, change);
    if (entry?.preload) void loadLater(this.core, entry);
  }

  /** Makes a name what its record says, unless it is that already. Returns an entry that is new. */
  private apply(
    model: string,
    name: string,
    { record, revision }: Pick<FollowedChange, 'record' | 'revision'>,
  ): AdapterEntry | undefined {
    const { registries, log, loader, journal, code } = this.core;
    const registry = registries.get(model);
    if (registry === undefined || revision <= registry.revisionOf(name)) return undefined;
    if (record === undefined && registry.revisionOf(name) === 0) return undefined;
    try {
      const body = record === undefined ? undefined : readRecord(record.body);
      registry.setRevision(name, record?.revision ?? 0);
      const led = registry.alias(name) !== undefined;
      if (body?.type !== 'alias') registry.removeAlias(name);
      if (body?.type === 'adapter') {
        const before = registry.get(name);
        const entry = entryOfRecord(this.core, model, name, body, record!.revision, before);
        point(this.core, registry, entry);
        return entry;
      }
      const removed = registry.remove(name);
      if (removed !== undefined) {
        loader.forget(removed);
        code?.forget(model, name);
      }
      if (body?.type === 'alias') {
        const { targets, createdAt, updatedAt } = body;
        registry.putAlias({ name, targets, createdAt, updatedAt, revision: record!.revision });
      }
      freeUnused(this.core, registry);
      if (removed !== undefined || led || body?.type === 'alias') journal.changed(model, name);
    } catch (error) {
      log.warn({ model, adapter: name, err: error }, 'a record of the registry cannot be used: ignored');
    }
    return undefined;
  }
}
