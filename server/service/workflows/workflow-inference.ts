/** Answers for workflows: what a workflow comes to, whole or as a stream. */
import { AppError } from '../../errors.js';
import type { AdapterLeases } from '../ports.js';
import type {
  CallContext,
  InferenceService,
  PredictEvent,
  PredictRequest,
  PredictResult,
  RequestCheck,
} from '../types.js';
import { lateStream } from './late-stream.js';
import type { Workflow } from './workflow-registry.js';
import { WorkflowRun } from './workflow-run.js';

/** What workflows answer with. */
export interface WorkflowParts {
  /** Answers for models, and checks what they are asked. */
  readonly inference: InferenceService & RequestCheck;
  /** Knows the adapters that a request may name. */
  readonly leases: AdapterLeases;
  /** The workflow of a name; undefined = it is a model's name. */
  find(name: string): Workflow | undefined;
  /** What answers requests that name nothing. */
  defaultName(): string | undefined;
}

/** The same service, which also takes names of workflows as `model`, with or without `/version`. */
export function workflowInference({ inference, leases, find, defaultName }: WorkflowParts): InferenceService {
  const workflowOf = ({ model }: PredictRequest) => {
    const name = model ?? defaultName();
    return name === undefined ? undefined : find(name);
  };
  /** A run, and what ends all of it. Throws what refuses the request before anything is called. */
  const begin = async (workflow: Workflow, request: PredictRequest, call: CallContext, streamed: boolean) => {
    const stop = new AbortController();
    const signal = AbortSignal.any([call.signal, stop.signal]);
    const run = new WorkflowRun(inference, workflow, request, { ...call, signal });
    if (workflow.plan.order.length > 1) await run.check(leases, streamed);
    return { run, stop, call: { ...call, signal } };
  };
  /** Ends what still runs where a part fails. */
  const whole = <T>(made: Promise<T>, stop: AbortController): Promise<T> =>
    made.catch((error: unknown) => {
      stop.abort(error);
      throw error;
    });
  return {
    async predict(request, call) {
      const workflow = workflowOf(request);
      if (workflow === undefined) return inference.predict(request, call);
      const begun = await begin(workflow, request, call, false);
      const answer = async (): Promise<readonly PredictResult[]> => {
        const last = await begun.run.request();
        return last === undefined ? begun.run.functionResults() : inference.predict(last, begun.call);
      };
      return whole(answer(), begun.stop);
    },
    async stream(request, call) {
      const workflow = workflowOf(request);
      if (workflow === undefined) return inference.stream(request, call);
      const begun = await begin(workflow, request, call, true);
      const events = async (): Promise<AsyncIterable<PredictEvent>> => {
        const last = await begun.run.request();
        return last === undefined ? asStream(await begun.run.functionResults()) : inference.stream(last, begun.call);
      };
      const made = whole(events(), begun.stop);
      // The only call refuses for all of the request; several take their time, and the answer begins with the last.
      if (workflow.plan.order.length === 1) return made;
      return lateStream(made, () => begun.stop.abort(new AppError('CANCELED', 'the stream was left')));
    },
  };
}

/** Texts that are whole already, as a stream. */
async function* asStream(results: readonly PredictResult[]): AsyncIterable<PredictEvent> {
  for (const result of results) {
    const place = { index: result.index, sample: result.sample };
    if (result.text !== '') yield { type: 'delta', ...place, text: result.text, tokens: [] };
    yield { type: 'final', ...place, result };
  }
}
