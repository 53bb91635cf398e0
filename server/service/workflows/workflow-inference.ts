/** Answers for workflows: each call's texts are the next call's prompts, and the last call is the answer, also as a stream. */
import { AppError } from '../../errors.js';
import type { AdapterSelection, CallContext, InferenceService, PredictInput, PredictRequest } from '../types.js';
import type { Call } from './calls.js';
import type { Workflow } from './workflow-service.js';

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
  const prepare = (request: PredictRequest, call: CallContext) => {
    const name = request.model ?? defaultName();
    const workflow = name === undefined ? undefined : find(name);
    return workflow === undefined ? request : allButLast(inference, workflow, request, call);
  };
  return {
    async predict(request, call) {
      return inference.predict(await prepare(request, call), call);
    },
    async stream(request, call) {
      return inference.stream(await prepare(request, call), call);
    },
  };
}

/** Makes all calls of a workflow but the last, whose request it returns. */
async function allButLast(
  inference: InferenceService,
  workflow: Workflow,
  request: PredictRequest,
  call: CallContext,
): Promise<PredictRequest> {
  const { calls } = workflow;
  // What the request chooses counts for the last call; a fault there must not cost the others first.
  const chosen = withAdapters(request, calls.at(-1)!, workflow);
  let inputs = request.inputs;
  for (const step of calls.slice(0, -1)) {
    const selection = step.adapter === undefined ? [] : [{ name: step.adapter, weight: 1 }];
    const results = await inference.predict(
      {
        model: step.model,
        inputs: inputs.map((input) => ({
          prompt: input.prompt,
          adapters: selection,
          parameters: { ...input.parameters, returnFullText: false },
        })),
        parameters: request.parameters,
      },
      call,
    );
    inputs = results.map(({ text, index }): PredictInput => {
      if (text === '') {
        const what = `workflow ${workflow.info.name}: ${step.place} answered input ${index} with an empty text`;
        throw new AppError('INVALID_REQUEST', `${what}, which the next step cannot take`);
      }
      return { prompt: { kind: 'text', text }, parameters: request.inputs[index]!.parameters };
    });
  }
  return { ...chosen, inputs: chosen.inputs.map((input, index) => ({ ...input, prompt: inputs[index]!.prompt })) };
}

/** The request for the last call; its adapter may be named by the request too, but no other. */
function withAdapters(request: PredictRequest, { model, adapter }: Call, { info }: Workflow): PredictRequest {
  if (adapter === undefined) return { ...request, model };
  const selection: AdapterSelection = [{ name: adapter, weight: 1 }];
  for (const input of request.inputs) {
    const asked = input.adapters ?? request.adapters;
    if (asked === undefined || isOnly(asked, adapter)) continue;
    const named = asked.length === 0 ? 'the base model' : asked.map(({ name }) => JSON.stringify(name)).join(' + ');
    throw new AppError(
      'CONFLICTING_ADAPTERS',
      `workflow ${JSON.stringify(info.name)} answers with adapter ${JSON.stringify(adapter)}, the request asks for ${named}`,
      { metadata: { adapter, other: named, workflow: info.name } },
    );
  }
  return {
    ...request,
    model,
    adapters: selection,
    inputs: request.inputs.map((input) => ({ ...input, adapters: selection })),
  };
}

function isOnly(selection: AdapterSelection, name: string): boolean {
  const [one, ...others] = selection;
  return others.length === 0 && one?.name === name && one.weight === 1;
}
