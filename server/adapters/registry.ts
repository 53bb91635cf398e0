/** The registered names of one model: adapters with the version they point to, and aliases. */
import { type AdapterAlias, type AdapterEntry, digestOf } from './adapter-entry.js';
import { nearNames } from './adapter-names.js';

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
