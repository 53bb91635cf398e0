/** The registered adapters of one model: names, where their content lies, and what is known of it. */
import { nearNames } from './adapter-names.js';
import type { AdapterSummary } from './prepare-adapter.js';

/** A registered adapter. Mutable: one object from registration to deletion. */
export interface AdapterEntry {
  readonly model: string;
  /** Key of the engine that holds its weights; models that share an engine have the same. */
  readonly pool: string;
  readonly name: string;
  /** As given at registration. */
  readonly source: string;
  /** Absolute path of the folder. */
  readonly folder: string;
  /** Folders that its files must lie below. */
  readonly roots: readonly string[];
  readonly preload: boolean;
  readonly pin: boolean;
  readonly options: Readonly<Record<string, string>>;
  readonly createdAt: number;
  /** What the files said; undefined until they were read. */
  summary?: AdapterSummary | undefined;
  /** Why it cannot be used; it stays unusable until it is deleted. */
  error?: string | undefined;
  loadedAt?: number | undefined;
  lastUsedAt?: number | undefined;
  /** Rows that run with it. */
  runningRows: number;
  /** 'new' until its name can be found, 'deleted' once it no longer can. */
  state: 'new' | 'registered' | 'deleted';
  /** True while the residency counts it as a name of its content. */
  retained: boolean;
}

/** Names of one model's adapters. Iteration order is that of registration; listings sort. */
export class AdapterRegistry {
  private readonly entries = new Map<string, AdapterEntry>();
  /** Names whose creation is under way: taken, but not to be found. */
  private readonly reserved = new Set<string>();

  get(name: string): AdapterEntry | undefined {
    return this.entries.get(name);
  }

  /** Takes a name until {@link add} or {@link unreserve}; false if it is taken. */
  reserve(name: string): boolean {
    if (this.entries.has(name) || this.reserved.has(name)) return false;
    this.reserved.add(name);
    return true;
  }

  unreserve(name: string): void {
    this.reserved.delete(name);
  }

  add(entry: AdapterEntry): void {
    this.reserved.delete(entry.name);
    entry.state = 'registered';
    this.entries.set(entry.name, entry);
  }

  /** Removes the name; what runs with the entry keeps it. */
  remove(name: string): AdapterEntry | undefined {
    const entry = this.entries.get(name);
    if (entry !== undefined) entry.state = 'deleted';
    this.entries.delete(name);
    return entry;
  }

  values(): Iterable<AdapterEntry> {
    return this.entries.values();
  }

  /** Up to three registered names that were probably meant. */
  near(name: string): string[] {
    return nearNames(name, this.entries.keys());
  }
}
