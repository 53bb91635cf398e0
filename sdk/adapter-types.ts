/** Plain objects of adapters and aliases. */

/** Life of an adapter. */
export type AdapterState = 'registered' | 'loading' | 'ready' | 'failed' | 'deleting';

/** What a registration of an adapter would say. */
export interface AdapterReport {
  /** True: `create` would take it. */
  valid: boolean;
  /** Reason that `create` would fail with; absent when valid. */
  reason?: string;
  /** Every fault; empty when valid. */
  faults: string[];
  /** Every tensor of the files and where it goes; `module` and `use` are empty for one that goes nowhere. */
  tensors: {
    file: string;
    name: string;
    dtype: string;
    shape: number[];
    storedBytes: number;
    module: string;
    use: string;
    rank?: number;
    scaling?: number;
  }[];
  /** Empty unless valid. */
  digest: string;
  /** Bytes of memory that the loaded weights would take; 0 unless valid. */
  weightBytes: number;
  features: string[];
  warnings: string[];
}

/** A registered adapter. */
export interface Adapter {
  name: string;
  model: string;
  /** SHA-256 of its content; empty until its files were read. */
  digest: string;
  source: string;
  state: AdapterState;
  /** Why the state is 'failed'. */
  error?: string | undefined;
  preload: boolean;
  pin: boolean;
  options: Record<string, string>;
  ranks: number[];
  scalings: number[];
  targetModules: string[];
  features: string[];
  warnings: string[];
  /** A module in its folder, and whether it answers for the adapter; absent where there is none. */
  handler?: { file: string; runs: boolean } | undefined;
  /** Bytes of its weights in memory. */
  weightBytes: number;
  runningRows: number;
  createTime?: Date | undefined;
  updateTime?: Date | undefined;
  loadTime?: Date | undefined;
  lastUseTime?: Date | undefined;
  /** Revision of the registry that last changed it; 0: found in a folder and never changed. */
  revision: number;
  /** While the state is 'loading'. */
  progress?: { stage: string; doneBytes: number; totalBytes?: number } | undefined;
  /** Every content that the name had, oldest first; empty in lists and watches. */
  versions: AdapterVersion[];
}

/** One content that an adapter's name has or had. */
export interface AdapterVersion {
  digest: string;
  source: string;
  createTime?: Date | undefined;
}

/** What a new adapter is made from. */
export interface CreateAdapterParams {
  name: string;
  /** A folder on the server. */
  source: string;
  model?: string | undefined;
  /** Load now rather than at first use. Default true. */
  preload?: boolean | undefined;
  /** Never drop its weights. Default false. */
  pin?: boolean | undefined;
  options?: Record<string, string> | undefined;
  /** True: where the name is registered, this becomes its new version. Default false: AdapterExistsError. */
  replace?: boolean | undefined;
  /** With `replace`: digest that the name must have now, else VersionConflictError. */
  expectedDigest?: string | undefined;
  /** False: return once the name is stored, in state 'loading'; `watch` tells how it goes. Default true. */
  synchronous?: boolean | undefined;
}

/** What is to change of an adapter; what is left out stays. */
export interface UpdateAdapterParams {
  model?: string | undefined;
  /** Read this source and take its content as the new version, also where it is the source already. */
  source?: string | undefined;
  /** Go to a version that the name had: its digest, or the first 8 or more digits. */
  digest?: string | undefined;
  preload?: boolean | undefined;
  pin?: boolean | undefined;
  /** Set these, leave the others. */
  options?: Record<string, string> | undefined;
  /** Digest that the name must have now, else VersionConflictError. */
  expectedDigest?: string | undefined;
}

/** What a watch tells. `resumeToken` resumes it after this event; '' before the first 'synced'. */
export type AdapterEvent =
  | { type: 'changed'; adapter: Adapter; resumeToken: string }
  /** An alias is new, or leads elsewhere. */
  | { type: 'alias'; alias: Alias; resumeToken: string }
  /** An adapter or an alias: they share their names. */
  | { type: 'deleted'; model: string; name: string; resumeToken: string }
  /** All there was at the beginning has been told: everything (`snapshot`), or what changed since the token. */
  | { type: 'synced'; snapshot: boolean; resumeToken: string };

/** One line of the log of changes. */
export interface AdapterLogEntry {
  revision: number;
  time?: Date | undefined;
  /** What the caller called itself (header `x-loramux-actor`), else its address. */
  actor: string;
  requestId: string;
  model: string;
  name: string;
  /** create, update, delete, read, alias or unalias. */
  action: string;
  /** '' where there was none. */
  digestBefore: string;
  digestAfter: string;
  detail: Record<string, unknown>;
}

/** Where an alias leads. */
export interface AliasTarget {
  adapter: string;
  /** A version of the adapter; default: the one that its name has. */
  digest?: string | undefined;
  /** Share of the inputs, relative to the other targets. Default 1. */
  share?: number | undefined;
}

/** A name that leads to adapters. */
export interface Alias {
  name: string;
  model: string;
  targets: AliasTarget[];
  createTime?: Date | undefined;
  updateTime?: Date | undefined;
  revision: number;
}
