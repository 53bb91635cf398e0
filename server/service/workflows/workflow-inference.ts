/** Answers for workflows: what a workflow comes to, whole or as a stream. */
import type { CallContext, InferenceService, PredictEvent, PredictRequest, PredictResult } from '../types.js';
import type { Workflow } from './workflow-registry.js';
import { WorkflowRun } from './workflow-run.js';

/**
 * The same service, which also takes names of workflows as `model`, with or without `/version`.
 * @param find the workflow of a name; undefined = it is a model's name
 * @param defaultName what answers requests that name nothing
 */
export function workflowInference(
  inference: InferenceService,
  find: (name: string) => Workflow | undefined,
  defaultName: () => string | undefined,
): InferenceService {
  const workflowOf = ({ model }: PredictRequest) => {
    const name = model ?? defaultName();
    return name === undefined ? undefined : find(name);
  };
  /** Goes through the workflow, and ends what still runs where a part of it fails. */
  const through = async <T>(
    workflow: Workflow,
    request: PredictRequest,
    call: CallContext,
    answer: (run: WorkflowRun) => Promise<T>,
  ): Promise<T> => {
    const stop = new AbortController();
    const signal = AbortSignal.any([call.signal, stop.signal]);
    try {
      return await answer(new WorkflowRun(inference, workflow, request, { ...call, signal }));
    } catch (error) {
      stop.abort(error);
      throw error;
    }
  };
  return {
    async predict(request, call) {
      const workflow = workflowOf(request);
      if (workflow === undefined) return inference.predict(request, call);
      return through(workflow, request, call, async (run) => {
        const last = await run.request();
        return last === undefined ? run.functionResults() : inference.predict(last, call);
      });
    },
    async stream(request, call) {
      const workflow = workflowOf(request);
      if (workflow === undefined) return inference.stream(request, call);
      return through(workflow, request, call, async (run) => {
        const last = await run.request();
        return last === undefined ? asStream(await run.functionResults()) : inference.stream(last, call);
      });
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
