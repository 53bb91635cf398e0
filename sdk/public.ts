/** What both entries of the package export. */
export type {
  Adapter,
  AdapterEvent,
  AdapterLogEntry,
  AdapterReport,
  AdapterState,
  AdapterVersion,
  Alias,
  AliasTarget,
  CreateAdapterParams,
  UpdateAdapterParams,
} from './adapter-types.js';
export { AdaptersResource } from './adapters.js';
export { AliasesResource } from './aliases.js';
export { type ClientOptions, TransportClient } from './client.js';
export {
  AbortedError,
  AdapterExistsError,
  AdapterInvalidError,
  AdapterNotFoundError,
  AliasNotFoundError,
  ConnectionError,
  ContextLengthError,
  DeadlineError,
  type ErrorFacts,
  InternalError,
  InvalidRequestError,
  LoramuxError,
  ModelNotFoundError,
  OverloadedError,
  SlowConsumerError,
  UnavailableError,
  UnimplementedError,
  VersionConflictError,
} from './errors.js';
export type {
  CreateWorkflowParams,
  Model,
  ModelDescription,
  ModelState,
  RegisterModelParams,
  Workflow,
} from './model-types.js';
export { ModelsResource } from './models.js';
export { type Page, PagedList } from './pagination.js';
export { TokenStream } from './token-stream.js';
export type {
  AdapterChoice,
  CallOptions,
  ChatMessage,
  FinishReason,
  GenerationParameters,
  PredictInput,
  PredictParams,
  PredictRequest,
  PredictResponse,
  PredictResult,
  Prompt,
  Receipt,
  StreamEvent,
  Token,
  WeightedAdapter,
} from './types.js';
export { WorkflowsResource } from './workflows.js';
