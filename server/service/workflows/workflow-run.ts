/** One request on its way through a workflow: every value is computed once, those that do not need each other side by side. */
import { AppError } from '../../errors.js';
import type { AdapterLeases } from '../ports.js';
import { selectionText } from '../selection-text.js';
import type {
  AdapterSelection,
  CallContext,
  InferenceService,
  PredictInput,
  PredictRequest,
  PredictResult,
  Prompt,
  RequestCheck,
} from '../types.js';
import type { Call, Value } from './calls.js';
import type { Workflow } from './workflow-registry.js';

type ModelValue = Extract<Value, { kind: 'model' }>;
type FunctionValue = Extract<Value, { kind: 'function' }>;

/** The values of one request. */
export class WorkflowRun {
  readonly #inference: InferenceService & RequestCheck;
  readonly #workflow: Workflow;
  readonly #request: PredictRequest;
  readonly #call: CallContext;
  /** The request as the last call of a model takes it: what the request chooses counts for that. */
  readonly #chosen: PredictRequest;
  readonly #results = new Map<ModelValue, Promise<readonly PredictResult[]>>();
  readonly #texts = new Map<FunctionValue, Promise<readonly string[]>>();

  /** Throws CONFLICTING_ADAPTERS where the request asks for another adapter than the workflow: before anything is called. */
  constructor(
    inference: InferenceService & RequestCheck,
    workflow: Workflow,
    request: PredictRequest,
    call: CallContext,
  ) {
    this.#inference = inference;
    this.#workflow = workflow;
    this.#request = request;
    this.#call = call;
    this.#chosen = withAdapters(request, workflow.plan.calls.at(-1)!, workflow);
  }

  /**
   * Refuses before the first call what one of them would be refused for when those before it are done. Its adapters are
   * asked for, too; they are not held, since the calls before it may need the memory.
   * @param streamed true: the answer is to be a stream
   * @throws AppError
   */
  async check(leases: AdapterLeases, streamed: boolean): Promise<void> {
    const { out, order } = this.#workflow.plan;
    // The last one is asked as the request is written, so that its faults are told first.
    for (const value of order.toReversed()) {
      if (value.kind !== 'model') continue;
      const prompts = this.#request.inputs.map(({ prompt }) => (value.from.kind === 'in' ? prompt : LATER));
      const request = value === out ? withPrompts(this.#chosen, prompts) : this.#stepRequest(value, prompts);
      await this.#inference.check(request, streamed && value === out);
      const selections = request.inputs.map((input) => input.adapters ?? request.adapters ?? []);
      if (selections.every((selection) => selection.length === 0)) continue;
      for (const { release } of await leases.acquire(request.model!, selections, this.#call)) release();
    }
  }

  /** The request to the model whose answer is the workflow's; undefined where that is a function's. */
  async request(): Promise<PredictRequest | undefined> {
    const { out } = this.#workflow.plan;
    if (out.kind !== 'model') return undefined;
    return withPrompts(this.#chosen, await this.#prompts(out));
  }

  /** What the function at the end makes of it: results of the last model, with its texts. Throws INVALID_REQUEST for n > 1. */
  async functionResults(): Promise<readonly PredictResult[]> {
    const { plan, info } = this.#workflow;
    const several = [this.#request, ...this.#request.inputs].some(({ parameters }) => (parameters?.n ?? 1) > 1);
    if (several) {
      const description = `must be 1: workflow ${info.name} answers with a function, which makes one text of each input`;
      throw new AppError('INVALID_REQUEST', `n ${description}`, {
        violations: [{ field: 'parameters.n', description }],
      });
    }
    const last = plan.order.findLast((value): value is ModelValue => value.kind === 'model')!;
    const texts = await this.#ofFunction(plan.out as FunctionValue);
    const results = await this.#ofModel(last);
    // The tokens are the model's and make another text.
    return results.map((result, at) => ({ ...result, text: texts[at]!, tokens: [] }));
  }

  #ofModel(value: ModelValue): Promise<readonly PredictResult[]> {
    const known = this.#results.get(value);
    if (known !== undefined) return known;
    const results = this.#predict(value);
    this.#results.set(value, results);
    return results;
  }

  async #predict(value: ModelValue): Promise<readonly PredictResult[]> {
    const prompts = await this.#prompts(value);
    return this.#inference.predict(this.#stepRequest(value, prompts), this.#call);
  }

  /** What a call is asked whose answer is not the workflow's. */
  #stepRequest(value: ModelValue, prompts: readonly Prompt[]): PredictRequest {
    const { plan, servedAs } = this.#workflow;
    const last = value.call === plan.calls.at(-1);
    const { adapter } = value.call;
    const selection: AdapterSelection = adapter === undefined ? [] : [{ name: adapter, weight: 1 }];
    const from = last ? this.#chosen : this.#request;
    const inputs = from.inputs.map((input, at): PredictInput => {
      const parameters = { ...input.parameters, n: 1, returnFullText: false };
      return { prompt: prompts[at]!, adapters: last ? input.adapters : selection, parameters };
    });
    const { parameters, adapters } = from;
    const model = servedAs(value.call.model);
    return { model, inputs, parameters, adapters: last ? adapters : selection };
  }

  /** What a model is asked, for each input. */
  async #prompts({ from, call }: ModelValue): Promise<readonly Prompt[]> {
    if (from.kind === 'in') return this.#request.inputs.map(({ prompt }) => prompt);
    const texts = await this.#textsOf(from);
    return texts.map((text, at) => {
      if (text !== '') return { kind: 'text', text };
      const before = from.kind === 'model' ? from.call.place : from.place;
      const what = `workflow ${this.#workflow.info.name}: ${before} answered input ${at} with an empty text`;
      throw new AppError('INVALID_REQUEST', `${what}, which ${call.place} cannot take`);
    });
  }

  async #textsOf(value: Value): Promise<readonly string[]> {
    if (value.kind === 'model') return (await this.#ofModel(value)).map(({ text }) => text);
    if (value.kind === 'function') return this.#ofFunction(value);
    return this.#request.inputs.map(({ prompt }, at) => {
      if (prompt.kind === 'text') return prompt.text;
      const is = prompt.kind === 'chat' ? 'a chat' : 'a list of token ids';
      const what = `workflow ${this.#workflow.info.name} begins with a function, which takes texts`;
      throw new AppError('INVALID_REQUEST', `${what}; input ${at} is ${is}`);
    });
  }

  #ofFunction(value: FunctionValue): Promise<readonly string[]> {
    const known = this.#texts.get(value);
    if (known !== undefined) return known;
    const texts = this.#compute(value);
    this.#texts.set(value, texts);
    return texts;
  }

  async #compute({ name, args }: FunctionValue): Promise<readonly string[]> {
    const columns = await Promise.all(args.map((one) => this.#textsOf(one)));
    const run = this.#workflow.functions.get(name)!;
    const rows = this.#request.inputs.map((_, at) => columns.map((texts) => texts[at]!));
    return Promise.all(rows.map((row, at) => run.call(row, at, this.#call)));
  }
}

/** Stands for the prompt of a call that is made of an earlier one's answer. */
const LATER: Prompt = { kind: 'text', text: '.' };

function withPrompts(request: PredictRequest, prompts: readonly Prompt[]): PredictRequest {
  return { ...request, inputs: request.inputs.map((input, at) => ({ ...input, prompt: prompts[at]! })) };
}

/** The request for the last call; its adapter may be named by the request too, but no other. */
function withAdapters(request: PredictRequest, call: Call, { info, servedAs }: Workflow): PredictRequest {
  const { adapter } = call;
  const model = servedAs(call.model);
  if (adapter === undefined) return { ...request, model };
  const selection: AdapterSelection = [{ name: adapter, weight: 1 }];
  for (const input of request.inputs) {
    const asked = input.adapters ?? request.adapters;
    if (asked === undefined || isOnly(asked, adapter)) continue;
    const named = asked.length === 0 ? 'the base model' : selectionText(asked);
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
  return others.length === 0 && one?.name.normalize('NFC') === name.normalize('NFC') && one.weight === 1;
}
