/**
 * What the surfaces (RPC, REST) ask of the service layer. Nothing here knows a protocol: both surfaces translate to
 * these types and back, so a rule about a request lives in exactly one place.
 */
import type { AdapterService } from './adapter-types.js';
import type { HandlerService } from './handler-types.js';
import type { InferenceService } from './inference-types.js';
import type { ModelManagement } from './management.js';
import type { WorkflowService } from './workflows/types.js';

export type * from './adapter-types.js';
export type * from './inference-types.js';

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
