/** What adapter management asks for and tells: adapters, their versions and aliases, and every change. */
import type { AdapterProgress, AdapterVersion, AliasTarget } from '../adapters/adapter-entry.js';
import type { AdapterReport } from '../adapters/validate-adapter.js';
import type { CallContext } from './inference-types.js';

/** Life of a registered adapter. */
export type AdapterState = 'registered' | 'loading' | 'ready' | 'failed' | 'deleting';

export type { AdapterProgress, AdapterReport, AdapterVersion, AliasTarget };

/** What the server knows of a registered adapter. */
export interface AdapterInfo {
  readonly model: string;
  readonly name: string;
  /** Lower-case hex SHA-256 over config and tensors; '' until the files were read. */
  readonly digest: string;
  /** As given at registration (a folder). */
  readonly source: string;
  readonly preload: boolean;
  readonly pin: boolean;
  /** Handler options kept and returned as given. */
  readonly options: Readonly<Record<string, string>>;
  readonly state: AdapterState;
  /** Why the state is 'failed'. */
  readonly error?: string | undefined;
  /** Distinct ranks, ascending. */
  readonly ranks: readonly number[];
  /** Distinct scalings (alpha/r, or alpha/sqrt(r) with rsLoRA), ascending. */
  readonly scalings: readonly number[];
  /** Distinct last name parts of the adapted modules, sorted, for example ['q_proj', 'v_proj']. */
  readonly targetModules: readonly string[];
  /** Bytes of the weights as the engine holds them; 0 when not resident. */
  readonly bytes: number;
  /** PEFT features this adapter uses, for example ['rslora', 'rank_pattern']. */
  readonly features: readonly string[];
  /** Remarks that do not stop it from working, for example another base model's name in its config. */
  readonly warnings: readonly string[];
  /** A module in its folder, and whether it answers for the adapter; absent = none, or nobody has looked. */
  readonly handler?: { readonly file: string; readonly runs: boolean } | undefined;
  /** Rows that run with it right now. */
  readonly runningRows: number;
  /** Unix milliseconds. */
  readonly createdAt: number;
  readonly updatedAt: number;
  readonly loadedAt?: number | undefined;
  readonly lastUsedAt?: number | undefined;
  /** While the state is 'loading'. */
  readonly progress?: AdapterProgress | undefined;
  /** Revision of the registry that wrote it; 0 = found in a folder and never changed. */
  readonly revision: number;
  /** Every content that the name had, oldest first; only where one adapter is asked for. */
  readonly versions?: readonly AdapterVersion[] | undefined;
}

/** What a registration asks for. */
export interface CreateAdapterRequest {
  readonly model?: string | undefined;
  readonly name: string;
  /** A folder: absolute, `file:` URI, or relative to the model folder. */
  readonly source: string;
  /** Load now rather than at first use; default true. */
  readonly preload?: boolean | undefined;
  /** Never evict; default false. */
  readonly pin?: boolean | undefined;
  readonly options?: Readonly<Record<string, string>> | undefined;
  /** True: if the name is registered, this becomes its new version. Default false: that is ADAPTER_EXISTS. */
  readonly replace?: boolean | undefined;
  /** With `replace`: digest that the name must have now, as in {@link UpdateAdapterRequest}; a new name has none. */
  readonly expectedDigest?: string | undefined;
  /** False: answer at once and load afterwards; the state tells how it goes. Default true. */
  readonly synchronous?: boolean | undefined;
  /** The workflow that it is registered for, as `name` or `name/version`; absent = a client asks. */
  readonly workflow?: string | undefined;
}

/** What is to change of a registered adapter; absent fields stay. */
export interface UpdateAdapterRequest {
  readonly model?: string | undefined;
  readonly name: string;
  /** Read this source, and take its content as the new version; also where it is the present source. */
  readonly source?: string | undefined;
  /** Go back (or forward) to a version that the name had; its whole digest, or 8 or more digits of it. */
  readonly digest?: string | undefined;
  readonly preload?: boolean | undefined;
  readonly pin?: boolean | undefined;
  /** Becomes the options. */
  readonly options?: Readonly<Record<string, string>> | undefined;
  /** Set these options, leave the others. */
  readonly mergeOptions?: Readonly<Record<string, string>> | undefined;
  /** Digest that the name must have now, else VERSION_CONFLICT; whole, or 8 or more digits. */
  readonly expectedDigest?: string | undefined;
}

/** A name that leads to adapters. */
export interface AliasInfo {
  readonly model: string;
  readonly name: string;
  readonly targets: readonly AliasTarget[];
  readonly createdAt: number;
  readonly updatedAt: number;
  readonly revision: number;
}

/** What an alias is to lead to. */
export interface SetAliasRequest {
  readonly model?: string | undefined;
  readonly name: string;
  /** At least one; `share` defaults to 1, `digest` may be 8 or more digits of one. */
  readonly targets: readonly {
    readonly adapter: string;
    readonly digest?: string | undefined;
    readonly share?: number | undefined;
  }[];
}

/** One line of the log of changes. */
export interface AdapterEventInfo {
  readonly revision: number;
  /** Unix milliseconds. */
  readonly at: number;
  readonly actor: string;
  readonly requestId: string;
  readonly model: string;
  readonly name: string;
  /** `create`, `update`, `delete`, `read` (the digest became known), `alias`, `unalias`. */
  readonly action: string;
  readonly digestBefore: string;
  readonly digestAfter: string;
  /** Further facts, for readers. */
  readonly detail: Readonly<Record<string, unknown>>;
}

/** What a watcher is told. Tokens resume a watch after the event that has them; '' = not yet. */
export type AdapterWatchEvent =
  | { readonly type: 'changed'; readonly adapter: AdapterInfo; readonly resumeToken: string }
  /** An alias is new, or leads elsewhere. */
  | { readonly type: 'alias'; readonly alias: AliasInfo; readonly resumeToken: string }
  /** An adapter or an alias: they share their names. */
  | { readonly type: 'deleted'; readonly model: string; readonly name: string; readonly resumeToken: string }
  /** All that there was at the start has been told: the whole state (`snapshot`), or what changed since the token. */
  | { readonly type: 'synced'; readonly snapshot: boolean; readonly resumeToken: string };

/** A page of a listing, sorted by name. */
export interface AdapterPage {
  readonly adapters: readonly AdapterInfo[];
  /** '' on the last page. */
  readonly nextPageToken: string;
}

/** Adapter management of all served models. Throws AppError. */
export interface AdapterService {
  /** `pageSize` 0 = default (100), at most 1000; the token is opaque and stable under inserts and deletes. */
  list(request: { model?: string | undefined; pageSize?: number; pageToken?: string }): Promise<AdapterPage>;
  get(request: { model?: string | undefined; name: string }): Promise<AdapterInfo>;
  /** Answers when the adapter is usable (or only registered, with preload false). A failed load registers nothing. */
  create(request: CreateAdapterRequest, call: CallContext): Promise<AdapterInfo>;
  /**
   * Says what `create` would: where every tensor goes, what would be refused and why, the memory it takes. Loads nothing.
   * Throws for a model or source that cannot be asked about, never for faults of the adapter.
   */
  validate(request: { model?: string | undefined; source: string }, call: CallContext): Promise<AdapterReport>;
  /** Changes the name as a whole or not at all. Running rows end with the version that they began with. */
  update(request: UpdateAdapterRequest, call: CallContext): Promise<AdapterInfo>;
  /** Running rows finish with the adapter; new requests do not find it any more. Returns what was deleted. */
  delete(
    request: { model?: string | undefined; name: string; expectedDigest?: string | undefined },
    call: CallContext,
  ): Promise<AdapterInfo>;
  /** Every adapter as it is, then every change; with a token, what changed since. Ends when `call` does. */
  watch(
    request: { model?: string | undefined; resumeToken?: string | undefined },
    call: CallContext,
  ): AsyncIterable<AdapterWatchEvent>;
  /** The log of changes, newest first. */
  events(request: {
    model?: string | undefined;
    name?: string | undefined;
    pageSize?: number;
    pageToken?: string;
  }): Promise<{ readonly events: readonly AdapterEventInfo[]; readonly nextPageToken: string }>;
  /** By name. */
  listAliases(request: { model?: string | undefined }): Promise<readonly AliasInfo[]>;
  getAlias(request: { model?: string | undefined; name: string }): Promise<AliasInfo>;
  /** Creates an alias, or replaces what it leads to. */
  setAlias(request: SetAliasRequest, call: CallContext): Promise<AliasInfo>;
  /** Returns what was deleted. */
  deleteAlias(request: { model?: string | undefined; name: string }, call: CallContext): Promise<AliasInfo>;
}
