/** Plain objects of models and workflows. */

/** Life of a registered model. */
export type ModelState = 'loading' | 'ready' | 'failed' | 'unloading';

/** A registered model. */
export interface Model {
  name: string;
  /** As given when it was registered. */
  url: string;
  state: ModelState;
  /** Why the state is 'failed'. */
  error?: string | undefined;
  /** What it is; absent until it is loaded. */
  description?: ModelDescription | undefined;
  /** True: named when the server was started. */
  startup: boolean;
  /** True: registered by itself, not only because workflows use it. */
  direct: boolean;
  /** Workflows that use it, as `name` or `name/version`. */
  workflows: string[];
  runningRows: number;
  waitingRows: number;
  /** Most rows of a step; 0 until it is loaded. */
  maxBatch: number;
  /** Most rows that may wait or run; 0 until it is loaded. */
  maxQueue: number;
  createTime?: Date | undefined;
}

/** What a loaded model is. */
export interface ModelDescription {
  /** Architecture, for example `llama`. */
  modelType: string;
  /** How many numbers its weights are. */
  parameters: number;
  /** `fp32`, `int8` or, on a GPU, `int4`. */
  dtype: string;
  /** Most tokens of prompt and answer together. */
  contextLength: number;
  vocabSize: number;
  /** SHA-256 of what it computes with, as in receipts. */
  baseFingerprint: string;
  /** False: it takes no adapters. */
  loraEnabled: boolean;
  /** File of its custom handler; '' where there is none. */
  handler: string;
  /** Where it runs, `cpu` or `webgpu`, and why; a GPU that fails may hand it to the processor. '' where no engine runs it. */
  device: string;
  deviceReason: string;
}

/** What a model is registered with; what is left out is as its folder says, else as the server was started. */
export interface RegisterModelParams {
  /** A folder or a .gguf file on the server, or an id of a hub. */
  url: string;
  /** Default: the last part of the url. */
  name?: string | undefined;
  /** False: return at once, in state 'loading'. Default true. */
  synchronous?: boolean | undefined;
  dtype?: 'fp32' | 'int8' | undefined;
  loraEnabled?: boolean | undefined;
  /** Most rows of a step. */
  maxBatch?: number | undefined;
  /** Most rows that may wait or run. */
  maxQueue?: number | undefined;
}

/** A registered workflow. */
export interface Workflow {
  name: string;
  /** '' where the definition has none. */
  version: string;
  /** `localName` is the definition's, `model` the name that it is served under. */
  models: { localName: string; model: string; url: string }[];
  adapters: { name: string; model: string; source: string }[];
  /** The calls that make an answer, in order. */
  calls: string[];
  /** The definition, as JSON text. */
  definition: string;
  /** True: named when the server was started. */
  startup: boolean;
  /** Absent while it is only scheduled. */
  createTime?: Date | undefined;
  /** Why it is not served, though it is kept; '' = it is. */
  error: string;
}

/** Where a workflow comes from: a file or folder on the server, the definition itself, or a template of the server. */
export type CreateWorkflowParams = (
  | { url: string }
  /** A text is JSON or YAML; an object is sent as JSON. */
  | { definition: string | Readonly<Record<string, unknown>> }
  | { template: string; parameters: Readonly<Record<string, string>> }
) & {
  /** False: return when the definition is checked, before anything is loaded. Default true. */
  synchronous?: boolean | undefined;
};
