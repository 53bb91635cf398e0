/** What both entries of the package export. */
export { AdaptersResource } from './adapters.js';
export { type ClientOptions, TransportClient } from './client.js';
export {
  AbortedError,
  AdapterExistsError,
  AdapterInvalidError,
  AdapterNotFoundError,
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
} from './errors.js';
export { type Page, PagedList } from './pagination.js';
export { TokenStream } from './token-stream.js';
export type {
  Adapter,
  AdapterChoice,
  AdapterReport,
  AdapterState,
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
  WeightedAdapter,
} from './types.js';
