/** What a registered name stands for: an adapter's content with its settings, or an alias. */
import type { AdapterModule } from './adapter-module.js';
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
  /** Why it cannot be used; it stays unusable until it is changed or deleted, or its files are others. */
  error?: string | undefined;
  /** When it failed to load last, on the clock of the loader. */
  failedAt?: number | undefined;
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
