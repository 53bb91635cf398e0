/** From a request to rows that can be submitted: everything that can be wrong with a request is found here. */
import { randomInt } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { AppError, type FieldViolation } from '../errors.js';
import { drawnSamples } from './best-of.js';
import { mergeParameters, parameterViolations } from './parameters.js';
import type { LoadedModel } from './ports.js';
import { type ReadPrompt, readPrompt } from './read-prompt.js';
import { promptViolations, refuse, selectionViolations } from './request-violations.js';
import type { AdapterSelection, GenerationParameters, PredictInput, PredictRequest, Prompt } from './types.js';

/** One sample of an input, checked and encoded. */
export interface PlannedRow extends ReadPrompt {
  /** Of the input. */
  readonly index: number;
  /** Which of the input's samples, from 0. */
  readonly sample: number;
  readonly prompt: Prompt;
  readonly selection: AdapterSelection;
  readonly parameters: GenerationParameters;
  readonly seed: number;
  /** Why the model's own tokenizer and template cannot read the prompt; those of an adapter may. */
  readonly fault?: AppError | undefined;
}

/**
 * Checks a whole request against the model and encodes its prompts. The rows of an input lie side by side.
 * @param maxInputs bound of the inputs, and of the rows that they become
 * @param streamed true: the rows' tokens are given out as they come
 * @param signal ends the reading of long prompts; then its reason is thrown
 * @throws AppError INVALID_REQUEST (all broken fields), CHAT_TEMPLATE_FAILED, CONTEXT_LENGTH_EXCEEDED
 */
export async function planRows(
  request: PredictRequest,
  model: LoadedModel,
  maxInputs: number,
  streamed = false,
  signal?: AbortSignal,
): Promise<PlannedRow[]> {
  const { inputs } = request;
  const { vocabSize } = model.info;
  const count = inputs.length;
  if (count === 0 || count > maxInputs) {
    const need =
      count === 0 ? 'must hold at least one input' : `may hold at most ${maxInputs} inputs, but holds ${count}`;
    refuse([{ field: 'inputs', description: need }]);
  }
  // An adapter may know more ids than the model; whether it does is known once it is leased.
  const adapted = inputs.some((input) => isAdapted(input, request));
  // Faults of the request-wide values are told once, at their own place.
  const common = mergeParameters(request.parameters);
  const merged = (input: PredictInput) =>
    input.parameters === undefined ? common : mergeParameters(request.parameters, input.parameters);
  const shared = [
    ...parameterViolations(common, 'parameters', adapted ? ANY_ID : vocabSize),
    ...selectionViolations(request.adapters ?? [], 'adapters'),
  ];
  refuse(shared);
  const violations: FieldViolation[] = [];
  let rows = 0;
  for (const [index, input] of inputs.entries()) {
    const path = `inputs[${index}]`;
    const parameters = merged(input);
    const ids = isAdapted(input, request) ? ANY_ID : vocabSize;
    violations.push(
      ...promptViolations(input.prompt, path, ids),
      ...(input.parameters ? parameterViolations(parameters, `${path}.parameters`, ids) : []),
      ...selectionViolations(input.adapters ?? [], `${path}.adapters`),
    );
    const drawn = drawnSamples(parameters);
    rows += drawn;
    if (streamed && drawn > parameters.n) {
      const description = `must equal n (${parameters.n}) in a stream: which samples are the best is known at the end`;
      const own = input.parameters?.bestOf !== undefined || input.parameters?.n !== undefined;
      violations.push({ field: own ? `${path}.parameters.best_of` : 'parameters.best_of', description });
    }
  }
  if (rows > maxInputs) {
    const description = `ask for ${rows} answers in all (inputs times samples), at most ${maxInputs} are made`;
    violations.push({ field: 'parameters.n', description });
  }
  refuse(violations);

  const planned: PlannedRow[] = [];
  let turn = performance.now();
  for (const [index, input] of inputs.entries()) {
    // Encoding takes the thread on which the other requests wait.
    if (performance.now() - turn > TURN_MS) {
      await nextTurn();
      turn = performance.now();
    }
    const parameters = merged(input);
    const { prompt } = input;
    const selection = input.adapters ?? request.adapters ?? [];
    const read = readPrompt(prompt, parameters, index, model, signal);
    const readable = await (selection.length > 0 ? withFault(read) : read);
    const firstSeed = parameters.seed ?? randomInt(2 ** 32);
    for (let sample = 0; sample < drawnSamples(parameters); sample++) {
      const seed = (firstSeed + sample) % 2 ** 32;
      planned.push({ index, sample, prompt, selection, parameters, seed, ...readable });
    }
  }
  return planned;
}

/** How long the prompts of one request are encoded before other work has its turn. */
const TURN_MS = 20;

/** Where adapters are selected a fault of the prompt waits: they may bring a way to read it. */
function withFault(read: Promise<ReadPrompt>): Promise<ReadPrompt & Pick<PlannedRow, 'fault'>> {
  return read.catch((thrown: unknown) => ({ promptIds: [], promptText: '', fault: AppError.from(thrown) }));
}

/** Bound of ids where the vocabulary is not known yet. */
const ANY_ID = 2 ** 32;

function isAdapted(input: PredictRequest['inputs'][number], request: PredictRequest): boolean {
  return (input.adapters ?? request.adapters ?? []).length > 0;
}
