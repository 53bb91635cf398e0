/** Models that come and go while the server runs, as the surfaces see them. */
import type { CallContext, ModelInfo } from './types.js';

/** Life of a registered model. */
export type ModelState = 'loading' | 'ready' | 'failed' | 'unloading';

/** How the adapters of a model are. */
export interface AdapterHealth {
  readonly registered: number;
  /** Those whose weights are in the engine, and those that are being read. */
  readonly ready: number;
  readonly loading: number;
  /** Those that cannot be used, and why. */
  readonly failed: readonly { readonly name: string; readonly error: string }[];
}

/** What is known of a registered model. */
export interface ModelStatus {
  readonly name: string;
  /** As given, without secrets: a folder, a file, a hub id. */
  readonly url: string;
  /** Where it was fetched from, without secrets; absent = it is on this machine. */
  readonly origin?: string | undefined;
  readonly state: ModelState;
  /** Why the state is 'failed', or why the engine stopped. */
  readonly error?: string | undefined;
  /** Absent until it is ready. */
  readonly info?: ModelInfo | undefined;
  /** True: named when the server started. */
  readonly startup: boolean;
  /** True: registered by itself, not only because workflows use it. */
  readonly direct: boolean;
  /** Workflows that use it, as `name` or `name/version`, sorted. */
  readonly workflows: readonly string[];
  /** Counted when it is read; absent = none are registered, or the model takes none. */
  readonly adapters?: AdapterHealth | undefined;
  readonly runningRows: number;
  readonly waitingRows: number;
  /** Most rows of a step, and most that may wait or run; 0 until it is ready. */
  readonly maxBatch: number;
  readonly maxQueue: number;
  /** Unix milliseconds. */
  readonly createdAt: number;
}

/** Settings of one model that win over its serving.properties; absent = those of the folder, then of the server. */
export interface ModelOverrides {
  readonly dtype?: string | undefined;
  readonly loraEnabled?: boolean | undefined;
  readonly maxBatch?: number | undefined;
  readonly maxQueue?: number | undefined;
}

/** What a registration asks for. */
export interface RegisterModelRequest extends ModelOverrides {
  /** A folder (absolute, `file:` URI, or relative to the model store), a .gguf file, or an id that sources are resolved from. */
  readonly url: string;
  /** Default: the last part of the url. */
  readonly name?: string | undefined;
  /** False: answer at once with state 'loading'. Default true: answer when the model is ready, or fail and register nothing. */
  readonly wait?: boolean | undefined;
}

/** What a name was asked for as: a workflow may also be a model, which is then told of as a workflow that is not there. */
export type AskedAs = 'model' | 'workflow';

/** Management of the served models. Throws AppError. */
export interface ModelManagement {
  /** Sorted by name. */
  list(): readonly ModelStatus[];
  /** Throws MODEL_NOT_FOUND, WORKFLOW_NOT_FOUND (where that was asked for). */
  get(name: string, asked?: AskedAs): ModelStatus;
  /** Throws MODEL_EXISTS, MODEL_INVALID, MODEL_SOURCE_INVALID, MODEL_SOURCE_FORBIDDEN. */
  register(request: RegisterModelRequest, call: CallContext): Promise<ModelStatus>;
  /**
   * New requests no longer find the model; answers that run are finished, then its memory is freed.
   * @param options `wait` false: answer before that
   * @throws MODEL_NOT_FOUND, WORKFLOW_NOT_FOUND (where that was asked for), MODEL_IN_USE
   */
  unregister(
    name: string,
    call: CallContext,
    options?: { readonly wait?: boolean; readonly asked?: AskedAs },
  ): Promise<ModelStatus>;
}
