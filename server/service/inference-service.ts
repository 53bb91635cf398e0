/** Answers requests: plans the rows, runs them in the model's engine, and hands out results or a stream of events. */
import { stallError } from '../engine/stall-watch.js';
import { AppError } from '../errors.js';
import { type Candidate, pickBest } from './best-of.js';
import { checkRequest } from './check-request.js';
import { EventChannel } from './event-channel.js';
import { modelGone } from './model-refusals.js';
import type { ModelUses } from './model-uses.js';
import { type PlannedRow, planRows } from './plan-rows.js';
import type { AdapterLeases, LoadedModel } from './ports.js';
import { type RequestRun, type RowEnded, type RunSink, startRun } from './request-run.js';
import { abortError } from './run-errors.js';
import type {
  CallContext,
  InferenceService,
  ModelService,
  PredictRequest,
  PredictResult,
  RequestCheck,
} from './types.js';

/** Bounds of requests. */
export interface InferenceLimits {
  /** Inputs of one request, and rows that they may become. */
  readonly maxInputs: number;
  /** Tokens of one stream that may wait for its reader; default 8192. */
  readonly maxWaitingTokens?: number;
}

/** What the service is made of. */
export interface InferenceOptions {
  readonly models: ReadonlyMap<string, LoadedModel>;
  readonly modelService: ModelService;
  readonly leases: AdapterLeases;
  readonly limits: InferenceLimits;
  /** Where running requests are counted by engine; absent = nowhere. */
  readonly uses?: ModelUses | undefined;
  /** Where ended rows are counted; absent = nowhere. */
  readonly ended?: RowEnded | undefined;
}

const MAX_WAITING_TOKENS = 8192;

/** The {@link InferenceService} over loaded models, which also checks requests without answering them. */
export function createInferenceService(options: InferenceOptions): InferenceService & RequestCheck {
  const { models, modelService, leases, limits, uses, ended } = options;

  const find = (request: PredictRequest): LoadedModel => {
    const { name, ready } = modelService.resolve(request.model);
    const model = models.get(name)!;
    if (!ready) {
      const { alive, stalled, failure: why } = model.engine;
      if (alive && stalled !== undefined) throw stallError(stalled);
      const stopped = `the engine of model ${JSON.stringify(name)} has stopped`;
      throw new AppError('ENGINE_FAILED', why === undefined ? stopped : `${stopped}: ${why}`);
    }
    return model;
  };

  /** The rows of a request. From before they are read the model is in use; `leave` ends that, and a failure does. */
  const plan = async (
    request: PredictRequest,
    streamed: boolean,
    signal: AbortSignal,
  ): Promise<{ model: LoadedModel; rows: PlannedRow[]; leave: (() => void) | undefined }> => {
    const model = find(request);
    const leave = uses?.enter(model.engine);
    try {
      return { model, rows: await planRows(request, model, limits.maxInputs, streamed, signal), leave };
    } catch (error) {
      leave?.();
      throw signal.aborted ? abortError(signal) : error;
    }
  };

  /** What a request is told. A model that was unregistered meanwhile is gone: its engine was closed, and did not fail. */
  const told = <T>({ engine, info: { name } }: LoadedModel, error: T): T | AppError => {
    const stopped = error instanceof AppError && error.reason === 'ENGINE_FAILED';
    return stopped && models.get(name)?.engine !== engine ? modelGone(name) : error;
  };

  const start = async (model: LoadedModel, rows: PlannedRow[], call: CallContext, sink: RunSink) => {
    const failed = (error: AppError): void => sink.failed(told(model, error));
    try {
      return await startRun(model, leases, rows, call, { ...sink, failed }, ended);
    } catch (error) {
      throw told(model, error);
    }
  };

  return {
    async check(request, streamed) {
      checkRequest(request, find(request).info.vocabSize, limits.maxInputs, streamed);
    },

    async predict(request, call) {
      const { model, rows, leave } = await plan(request, false, call.signal);
      const candidates: Candidate[] = new Array(rows.length);
      return new Promise<PredictResult[]>((resolve, reject) => {
        const sink = {
          prompt: () => {},
          tokens: () => {},
          result: (at: number, candidate: Candidate) => {
            candidates[at] = candidate;
          },
          done: () => resolve(pickBest(rows, candidates)),
          failed: reject,
        };
        start(model, rows, call, sink).catch(reject);
      }).finally(leave);
    },

    async stream(request, call) {
      const { model, rows, leave } = await plan(request, true, call.signal);
      let run: RequestRun | undefined;
      let left: AppError | undefined;
      const channel = new EventChannel(limits.maxWaitingTokens ?? MAX_WAITING_TOKENS, (reason) => {
        left = reason;
        run?.cancel(reason);
      });
      const sink: RunSink = {
        prompt: (at, text, tokens) => channel.delta(rows[at]!, text, [], tokens),
        tokens: (at, tokens) => channel.delta(rows[at]!, tokens.map(({ text }) => text).join(''), tokens),
        result: (_, { result }) => channel.final(result),
        done: () => {
          leave?.();
          channel.close();
        },
        failed: (error) => {
          leave?.();
          channel.fail(error);
        },
      };
      run = await start(model, rows, call, sink).catch((error: unknown) => {
        leave?.();
        throw error;
      });
      // An engine that answers at once may have overrun the channel before there was a run to cancel.
      if (left !== undefined) run.cancel(left);
      return channel;
    },
  };
}
