/** What both entries of the package export. */
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
  Adapter,
  AdapterChoice,
  AdapterEvent,
  AdapterLogEntry,
  AdapterReport,
  AdapterState,
  AdapterVersion,
  Alias,
  AliasTarget,
  CallOptions,
  ChatMessage,
  CreateAdapterParams,
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
  UpdateAdapterParams,
  WeightedAdapter,
} from './types.js';
export { WorkflowsResource } from './workflows.js';
