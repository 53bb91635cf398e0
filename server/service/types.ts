/**
 * What the surfaces (RPC, REST) ask of the service layer. Nothing here knows a protocol: both surfaces translate to
 * these types and back, so a rule about a request lives in exactly one place.
 */

import type { AdapterProgress, AdapterVersion, AliasTarget } from '../adapters/registry.js';
import type { AdapterReport } from '../adapters/validate-adapter.js';
import type { ChatMessage } from '../text/chat-template.js';
import type { GenerationParameters } from './generation-parameters.js';
import type { HandlerService } from './handler-types.js';
import type { ModelManagement } from './management.js';
import type { WorkflowService } from './workflows/types.js';

/** One adapter of a row's selection and the weight its update is multiplied with (1 = as trained). */
export interface AdapterWeight {
  readonly name: string;
  readonly weight: number;
}

/** The adapters of one row: empty = the base model, several = the exact weighted sum of their updates. */
export type AdapterSelection = readonly AdapterWeight[];

export type { AdapterReport, ChatMessage, GenerationParameters };

/** What one row generates from. */
export type Prompt =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'tokens'; readonly tokenIds: readonly number[] }
  | {
      readonly kind: 'chat';
      readonly messages: readonly ChatMessage[];
      /** Name of one of the model's chat templates; absent = its default. */
      readonly template?: string | undefined;
    };

/** One input of a request, with its own adapters and overrides. */
export interface PredictInput {
  readonly prompt: Prompt;
  /** Absent = the request's default selection. */
  readonly adapters?: AdapterSelection | undefined;
  /** Override the request's parameters field by field. */
  readonly parameters?: Partial<GenerationParameters> | undefined;
}

/** A request for answers; every sample of every input becomes one row. */
export interface PredictRequest {
  /** Absent = the only model served. */
  readonly model?: string | undefined;
  readonly inputs: readonly PredictInput[];
  /** Selection of the inputs that name none; absent = base. */
  readonly adapters?: AdapterSelection | undefined;
  readonly parameters?: Partial<GenerationParameters> | undefined;
}

/** Who asks, and how urgently: for logs, cancelation, and the order of the queue. */
export interface CallContext {
  readonly requestId: string;
  /** Aborts when the client goes away or its deadline passes; the rows are freed within a step. */
  readonly signal: AbortSignal;
  /** Who asks, for the log of changes: what the caller says of itself, else its address. Not authenticated. */
  readonly actor?: string | undefined;
  /** Rows of a higher priority go first; absent = 0. */
  readonly priority?: number | undefined;
  /** When the answer is wanted: milliseconds of `performance.timeOrigin + performance.now()`; absent = no matter when. */
  readonly deadline?: number | undefined;
}

/** One generated token, or one of the prompt. */
export interface TokenInfo {
  readonly id: number;
  /** The text this token adds; the texts of all tokens joined are the answer's text. Never splits a character. */
  readonly text: string;
  /** Natural log of the token's probability in the raw distribution; present when log-probabilities were asked for. */
  readonly logprob?: number | undefined;
  /** The best alternatives, best first. */
  readonly top?: readonly { readonly id: number; readonly text: string; readonly logprob: number }[] | undefined;
  /** True for end-of-sequence and other special tokens. */
  readonly special: boolean;
}

/** Why a row ended. */
export type FinishReason = 'eos' | 'stop' | 'length' | 'cancelled';

/** Proof of what answered: digests are of content, so equal digests mean equal weights. */
export interface Receipt {
  readonly model: string;
  /** SHA-256 based fingerprint of the base model's files, lower-case hex. */
  readonly baseFingerprint: string;
  /** In the order of the request; empty = base. */
  readonly adapters: readonly ReceiptAdapter[];
}

/** One adapter that answered. */
export interface ReceiptAdapter {
  /** As the request named it. */
  readonly name: string;
  /** Of the content that answered. */
  readonly digest: string;
  readonly weight: number;
  /** The adapter that the name led to, where the name is an alias. */
  readonly resolved?: string | undefined;
}

/** Token counts of one row. */
export interface Usage {
  readonly promptTokens: number;
  readonly completionTokens: number;
  /** Prompt tokens whose keys and values an earlier row had left behind. */
  readonly cachedTokens: number;
}

/** Where a row's time went, in milliseconds. */
export interface Timings {
  /** From submission to the first step that worked on the row. */
  readonly queueMs: number;
  /** From there to the first token. */
  readonly prefillMs: number;
  /** From the first token to the last. */
  readonly decodeMs: number;
}

/** The complete answer to one input. */
export interface PredictResult {
  /** Of the input. */
  readonly index: number;
  /** Which of the input's answers, from 0. */
  readonly sample: number;
  readonly text: string;
  /** All generated tokens, end-of-sequence included when it was generated. */
  readonly tokens: readonly TokenInfo[];
  /** The prompt's tokens, when their log-probabilities were asked for; the first has none. */
  readonly promptTokens?: readonly TokenInfo[] | undefined;
  readonly finishReason: FinishReason;
  /** The stop string that ended the row, if one did. */
  readonly stopString?: string | undefined;
  readonly usage: Usage;
  readonly timings: Timings;
  readonly receipt: Receipt;
  /** Seed that the row used. */
  readonly seed: number;
}

/** What a stream delivers: deltas of any row in the order they come, and one final event per row. */
export type PredictEvent =
  | {
      readonly type: 'delta';
      readonly index: number;
      readonly sample: number;
      readonly text: string;
      readonly tokens: readonly TokenInfo[];
      /** Of the prompt that the text begins with, where their log-probabilities were asked for. */
      readonly promptTokens?: readonly TokenInfo[] | undefined;
    }
  | { readonly type: 'final'; readonly index: number; readonly sample: number; readonly result: PredictResult };

/** Answers. Both methods validate the whole request first: on a fault nothing is enqueued. */
export interface InferenceService {
  /** Waits for every row; results in the order of the inputs and of their samples. Throws AppError. */
  predict(request: PredictRequest, call: CallContext): Promise<readonly PredictResult[]>;
  /** Resolves once the request is accepted; ending the iteration early cancels the rows. Throws AppError. */
  stream(request: PredictRequest, call: CallContext): Promise<AsyncIterable<PredictEvent>>;
}

/** Life of a registered adapter. */
export type AdapterState = 'registered' | 'loading' | 'ready' | 'failed' | 'deleting';

export type { AdapterProgress, AdapterVersion, AliasTarget };

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
  validate(request: { model?: string | undefined; source: string }): Promise<AdapterReport>;
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

/** A served model, for listings and start-up output. */
export interface ModelInfo {
  readonly name: string;
  readonly path: string;
  readonly modelType: string;
  readonly parameters: number;
  readonly dtype: 'fp32' | 'int8' | 'int4';
  readonly contextLength: number;
  readonly vocabSize: number;
  readonly fingerprint: string;
  readonly ready: boolean;
  /** False: adapters are refused (`option.enable_lora=false`). */
  readonly loraEnabled: boolean;
  /** Where it runs now, and why there; absent where no engine runs it. */
  readonly device?: { readonly name: string; readonly why: string } | undefined;
  /** Where the name is a workflow's: the served model that answers, whose adapters can be asked for. */
  readonly answeredBy?: string | undefined;
  /** The adapter that a workflow of a single call answers with; absent = it leaves the choice to the request, or is none. */
  readonly answeredWith?: string | undefined;
  /** File of the custom handler that answers for the model; absent = none. */
  readonly handler?: string | undefined;
}

/** The served models. */
export interface ModelService {
  list(): readonly ModelInfo[];
  /** What answers requests that name nothing: the only model or workflow of the start; undefined if there are several. */
  defaultName(): string | undefined;
  /**
   * The model that answers for a name; for a workflow it is the model of its last step, under the workflow's name.
   * Absent name = the default, or INVALID_REQUEST. Throws MODEL_NOT_FOUND, MODEL_NOT_READY.
   */
  resolve(name: string | undefined): ModelInfo;
}

/** Everything a surface needs. */
export interface Services {
  readonly inference: InferenceService;
  readonly adapters: AdapterService;
  readonly models: ModelService;
  readonly management: ModelManagement;
  readonly workflows: WorkflowService;
  /** Absent = no model has a handler. */
  readonly handlers?: HandlerService | undefined;
}
