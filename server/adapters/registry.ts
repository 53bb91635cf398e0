/** The registered names of one model: adapters with the version they point to, and aliases. */
import type { AdapterModule } from './adapter-module.js';
import { nearNames } from './adapter-names.js';
import type { AdapterSummary } from './prepare-adapter.js';

/** One content that a name has or had. */
export interface AdapterVersion {
  /** Lower-case hex SHA-256 of config and tensors. */
  readonly digest: string;
  /** Where it came from, as given. */
  readonly source: string;
  /** Where the cache of remote files has it; absent for local folders. */
  readonly snapshot?: string | undefined;
  /** When the name first pointed to it; Unix milliseconds. */
  readonly createdAt: number;
}

/** Use of a name, over all its versions. */
export interface AdapterUsage {
  /** Rows that run with it. */
  runningRows: number;
  lastUsedAt?: number | undefined;
}

/** How far a load has come. */
export interface AdapterProgress {
  readonly stage: 'fetch' | 'read' | 'load';
  readonly doneBytes: number;
  /** Undefined while it is not known. */
  readonly totalBytes?: number | undefined;
}

/**
 * What a name stands for: one content, and the settings of the name. A change of either is a new entry under the name;
 * rows that run keep the entry that they started with.
 */
export interface AdapterEntry {
  readonly model: string;
  /** Key of the engine that holds its weights; models that share an engine have the same. */
  readonly pool: string;
  readonly name: string;
  /** As given at registration. */
  readonly source: string;
  /** Absolute path of the folder; '' where the source is not on this machine. */
  readonly folder: string;
  /** Folders that its files must lie below. */
  readonly roots: readonly string[];
  /** Digest that the content must have; '' = whatever is read first. */
  readonly digest: string;
  readonly preload: boolean;
  readonly pin: boolean;
  readonly options: Readonly<Record<string, string>>;
  /** When the name was registered, and when it was last changed; Unix milliseconds. */
  readonly createdAt: number;
  readonly updatedAt: number;
  /** Every content of the name that is known, in the order in which it first had them. */
  versions: readonly AdapterVersion[];
  /** Revision of the registry that wrote it; 0 = not stored, it was found in a folder. */
  revision: number;
  /** True: found in a folder at start, whose content may be another at the next start. */
  readonly fromFolder: boolean;
  /** Workflow that registered it, as `name` or `name/version`, and with the last of which it goes; absent = a client. */
  readonly workflow?: string | undefined;
  readonly usage: AdapterUsage;
  /** What the files said; undefined until they were read. */
  summary?: AdapterSummary | undefined;
  /** The module in its folder; null = there is none, undefined = nobody has looked. */
  module?: AdapterModule | null | undefined;
  /** Why it cannot be used; it stays unusable until it is changed or deleted, or the files of its folder are others. */
  error?: string | undefined;
  /** What the file system said of its folder before it was read last; undefined for what is not on this machine. */
  folderState?: string | undefined;
  /** Where the cache of remote files has its content; undefined for local folders, and until it was fetched. */
  snapshot?: string | undefined;
  /** While it is being loaded. */
  progress?: AdapterProgress | undefined;
  loadedAt?: number | undefined;
  /** 'new' until its name points to it, 'deleted' once it no longer does. */
  state: 'new' | 'registered' | 'deleted';
  /** True while the residency counts it as a name of its content. */
  retained: boolean;
}

/** One place that an alias leads to. */
export interface AliasTarget {
  readonly adapter: string;
  /** A version of the adapter; absent = the one that its name points to. */
  readonly digest?: string | undefined;
  /** Share of the rows, above 0, relative to those of the other targets. */
  readonly share: number;
}

/** A name that leads to adapters. */
export interface AdapterAlias {
  readonly name: string;
  readonly targets: readonly AliasTarget[];
  readonly createdAt: number;
  readonly updatedAt: number;
  readonly revision: number;
}

/** Digest of an entry; '' while nobody has read its files. */
export function digestOf(entry: AdapterEntry): string {
  return entry.summary?.digest ?? entry.digest;
}

/** Names of one model's adapters. Iteration order is that of registration; listings sort. */
export class AdapterRegistry {
  private readonly entries = new Map<string, AdapterEntry>();
  private readonly aliasMap = new Map<string, AdapterAlias>();
  /** Names whose creation is under way: taken, but not to be found. */
  private readonly reserved = new Set<string>();
  /** Entries for versions that only aliases lead to, by adapter and digest. */
  private readonly held = new Map<string, AdapterEntry>();
  /** Entries by the digest that they had when they came here, or when it became known. */
  private readonly contents = new Map<string, Set<AdapterEntry>>();
  /** Revisions of the stored records, of removed names too. */
  private readonly revisions = new Map<string, number>();
  private readonly removed = new Set<string>();

  get(name: string): AdapterEntry | undefined {
    return this.entries.get(name);
  }

  /** True for a name of an adapter or an alias. */
  has(name: string): boolean {
    return this.entries.has(name) || this.aliasMap.has(name);
  }

  alias(name: string): AdapterAlias | undefined {
    return this.aliasMap.get(name);
  }

  /** Takes a name until {@link unreserve}; false if it is taken. */
  reserve(name: string): boolean {
    if (this.entries.has(name) || this.aliasMap.has(name) || this.reserved.has(name)) return false;
    this.reserved.add(name);
    return true;
  }

  unreserve(name: string): void {
    this.reserved.delete(name);
  }

  /** Makes a name point to an entry. Returns the one it pointed to before. */
  put(entry: AdapterEntry): AdapterEntry | undefined {
    const before = this.entries.get(entry.name);
    if (before !== undefined) this.end(before);
    entry.state = 'registered';
    this.entries.set(entry.name, entry);
    this.noteContent(entry);
    return before;
  }

  /** Removes the name; what runs with the entry keeps it. */
  remove(name: string): AdapterEntry | undefined {
    const entry = this.entries.get(name);
    if (entry !== undefined) this.end(entry);
    this.entries.delete(name);
    return entry;
  }

  /** To be called when the digest of an entry becomes known that had none. */
  noteContent(entry: AdapterEntry): void {
    const digest = digestOf(entry);
    if (digest === '' || entry.state !== 'registered') return;
    const same = this.contents.get(digest);
    if (same === undefined) this.contents.set(digest, new Set([entry]));
    else same.add(entry);
  }

  private end(entry: AdapterEntry): void {
    entry.state = 'deleted';
    const digest = digestOf(entry);
    const same = this.contents.get(digest);
    if (same?.delete(entry) && same.size === 0) this.contents.delete(digest);
  }

  putAlias(alias: AdapterAlias): void {
    this.aliasMap.set(alias.name, alias);
  }

  removeAlias(name: string): void {
    this.aliasMap.delete(name);
  }

  /** The entry of a version that an alias leads to and the name does not; made when it is first asked for. */
  hold(adapter: string, digest: string, make: () => AdapterEntry): AdapterEntry {
    const key = JSON.stringify([adapter, digest]);
    let entry = this.held.get(key);
    if (entry === undefined) {
      entry = make();
      entry.state = 'registered';
      this.held.set(key, entry);
      this.noteContent(entry);
    }
    return entry;
  }

  /** Takes all names out. Returns every entry that was in use, those of versions too. */
  clear(): AdapterEntry[] {
    const all = [...this.entries.values(), ...this.held.values()];
    for (const entry of all) this.end(entry);
    this.entries.clear();
    this.held.clear();
    this.aliasMap.clear();
    return all;
  }

  /** Takes out and returns the held entries that no alias leads to any more. */
  dropUnused(): AdapterEntry[] {
    const used = new Set<string>();
    for (const { targets } of this.aliasMap.values()) {
      for (const { adapter, digest } of targets) {
        const entry = this.entries.get(adapter);
        if (digest !== undefined && entry !== undefined && digestOf(entry) !== digest) {
          used.add(JSON.stringify([adapter, digest]));
        }
      }
    }
    const dropped = [...this.held].filter(([key]) => !used.has(key));
    for (const [key, entry] of dropped) {
      this.held.delete(key);
      this.end(entry);
    }
    return dropped.map(([, entry]) => entry);
  }

  /** Revision of the record stored under a name; 0 = there is none. */
  revisionOf(name: string): number {
    return this.revisions.get(name) ?? 0;
  }

  setRevision(name: string, revision: number): void {
    if (revision !== 0) this.revisions.set(name, revision);
    else if (this.revisions.delete(name)) this.removed.add(name);
  }

  /** True where the record of a name went after the last {@link forgetRemoved}: what is told of it may be older than that. */
  wasRemoved(name: string): boolean {
    return this.removed.has(name);
  }

  forgetRemoved(): void {
    this.removed.clear();
  }

  values(): Iterable<AdapterEntry> {
    return this.entries.values();
  }

  aliases(): Iterable<AdapterAlias> {
    return this.aliasMap.values();
  }

  /** Names pointing to a content, and names of aliases' versions of it. */
  namesOf(pool: string, digest: string): string[] {
    const same = this.contents.get(digest) ?? [];
    return Array.from(same)
      .filter((entry) => entry.pool === pool)
      .map(({ name }) => name);
  }

  /** Up to three registered names that were probably meant. */
  near(name: string): string[] {
    return nearNames(name, [...this.entries.keys(), ...this.aliasMap.keys()]);
  }
}
