import { create } from '@bufbuild/protobuf';
import { type Client, type CallOptions as ConnectCallOptions, createClient, type Transport } from '@connectrpc/connect';
import { AdapterService } from '../gen/loramux/v1/adapters_pb.js';
import { InferenceService, StreamPredictRequestSchema } from '../gen/loramux/v1/inference_pb.js';
import { ModelService } from '../gen/loramux/v1/models_pb.js';
import { WorkflowService } from '../gen/loramux/v1/workflows_pb.js';
import { AdaptersResource, type RunCall } from './adapters.js';
import { checkCallOptions } from './check-options.js';
import { fromEvent, fromResult } from './from-message.js';
import { ModelsResource } from './models.js';
import { type ResolvedOptions, withRetries } from './retry.js';
import { ofRightTypes } from './right-types.js';
import { RunningCalls } from './running-calls.js';
import { toRequest } from './to-request.js';
import { TokenStream } from './token-stream.js';
import type { CallOptions, PredictParams, PredictResponse, StreamEvent } from './types.js';
import { WorkflowsResource } from './workflows.js';

/** Options of a client, on every platform. */
export interface ClientOptions {
  /** Where the server is. Default `http://127.0.0.1:8080`. */
  baseUrl?: string | undefined;
  /** Budget of a call, retries included. Default 600000, ten minutes. */
  timeoutMs?: number | undefined;
  /** How often to repeat a call that was refused for lack of room or lost its connection. Default 2. */
  maxRetries?: number | undefined;
  /** Headers of every request. */
  headers?: Record<string, string> | undefined;
}

/** A client over any transport of Connect; `LoramuxClient` brings the transport along. */
export class TransportClient {
  /** Adapter management. */
  readonly adapters: AdaptersResource;
  /** Management of the models that are served. */
  readonly models: ModelsResource;
  /** Management of workflows. */
  readonly workflows: WorkflowsResource;
  /** The generated clients underneath: no retries, and a stream that is left goes on unless its signal is aborted. */
  readonly raw: {
    inference: Client<typeof InferenceService>;
    adapters: Client<typeof AdapterService>;
    models: Client<typeof ModelService>;
    workflows: Client<typeof WorkflowService>;
  };
  readonly #defaults: ClientOptions;
  readonly #running = new RunningCalls();

  constructor(transport: Transport, options: ClientOptions = {}) {
    this.#defaults = options;
    const checked = ofRightTypes(transport);
    this.raw = {
      inference: createClient(InferenceService, checked),
      adapters: createClient(AdapterService, checked),
      models: createClient(ModelService, checked),
      workflows: createClient(WorkflowService, checked),
    };
    const run: RunCall = (callOptions, idempotent, call) => this.#run(this.#resolve(callOptions), idempotent, call);
    this.adapters = new AdaptersResource(this.raw.adapters, run, (callOptions) => {
      const { maxRetries = options.maxRetries } = callOptions ?? {};
      return { ...this.#resolve(callOptions), ownMaxRetries: maxRetries, running: this.#running };
    });
    this.models = new ModelsResource(this.raw.models, run);
    this.workflows = new WorkflowsResource(this.raw.workflows, run);
  }

  /**
   * Answers every input, each from its own adapter, and waits for all of them.
   *
   * @throws LoramuxError
   */
  async predict(params: PredictParams, options?: CallOptions): Promise<PredictResponse> {
    const request = toRequest(params);
    const resolved = this.#resolve(options);
    let requestId = '';
    const onHeader = (headers: Headers): void => {
      requestId = headers.get('x-request-id') ?? '';
    };
    const response = await this.#run(resolved, true, (call) =>
      this.raw.inference.predict(request, { ...call, onHeader }),
    );
    const results = response.results.map(fromResult);
    return { results, text: results[0]?.text ?? '', requestId };
  }

  /** Answers every input and streams the texts. Errors come when the stream is read. */
  stream(params: PredictParams, options?: CallOptions): TokenStream {
    const { $typeName: _, ...fields } = toRequest(params);
    const request = create(StreamPredictRequestSchema, fields);
    const resolved = this.#resolve(options);
    const running = this.#running.begin(resolved.signal);
    return new TokenStream(
      (signal, onRequestId) =>
        withRetries({ ...resolved, signal }, true, async (timeoutMs) => {
          const source = this.raw.inference.streamPredict(request, {
            ...connectOptions({ ...resolved, signal }, timeoutMs),
            onHeader: (headers) => onRequestId(headers.get('x-request-id') ?? ''),
          });
          return afterFirst(source[Symbol.asyncIterator](), fromEvent);
        }),
      request.inputs.map((input) => input.parameters?.n ?? request.parameters?.n ?? 1),
      running,
    );
  }

  /** Cancels what runs; what is called later is not concerned. */
  protected cancelAll(): void {
    this.#running.cancelAll();
  }

  async #run<T>(
    resolved: ResolvedOptions,
    idempotent: boolean,
    call: (options: ConnectCallOptions) => Promise<T>,
  ): Promise<T> {
    const { signal, end } = this.#running.begin(resolved.signal);
    const options = { ...resolved, signal };
    try {
      return await withRetries(options, idempotent, (timeoutMs) => call(connectOptions(options, timeoutMs)));
    } finally {
      end();
    }
  }

  #resolve(options: CallOptions = {}): ResolvedOptions {
    checkCallOptions(options);
    const headers = { ...this.#defaults.headers, ...options.headers };
    new Headers(headers); // Throws for what no header can be, which would look like a lost connection later.
    return {
      signal: options.signal,
      timeoutMs: options.timeoutMs ?? this.#defaults.timeoutMs ?? 600_000,
      maxRetries: options.maxRetries ?? this.#defaults.maxRetries ?? 2,
      headers,
    };
  }
}

function connectOptions({ signal, headers }: ResolvedOptions, timeoutMs: number | undefined): ConnectCallOptions {
  return { ...(timeoutMs !== undefined && { timeoutMs }), ...(signal && { signal }), ...(headers && { headers }) };
}

/** Waits for the first item, so that a refused stream can be tried again; from then on there are no retries. */
async function afterFirst<M>(
  source: AsyncIterator<M>,
  map: (message: M) => StreamEvent,
): Promise<AsyncIterator<StreamEvent>> {
  const translate = (result: IteratorResult<M>): IteratorResult<StreamEvent> =>
    result.done ? { done: true, value: undefined } : { done: false, value: map(result.value) };
  let first: IteratorResult<StreamEvent> | undefined = translate(await source.next());
  return {
    async next() {
      const result = first ?? translate(await source.next());
      first = undefined;
      return result;
    },
  };
}
