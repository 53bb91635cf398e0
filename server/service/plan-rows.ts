/** From a request to rows that can be submitted. */
import { randomInt } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { AppError } from '../errors.js';
import { drawnSamples } from './best-of.js';
import { checkRequest } from './check-request.js';
import { mergeParameters } from './parameters.js';
import type { LoadedModel } from './ports.js';
import { type ReadPrompt, readPrompt } from './read-prompt.js';
import type { AdapterSelection, GenerationParameters, PredictRequest, Prompt } from './types.js';

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
  checkRequest(request, model.info.vocabSize, maxInputs, streamed);
  const planned: PlannedRow[] = [];
  let turn = performance.now();
  for (const [index, input] of request.inputs.entries()) {
    // Encoding takes the thread on which the other requests wait.
    if (performance.now() - turn > TURN_MS) {
      await nextTurn();
      turn = performance.now();
    }
    const parameters = mergeParameters(request.parameters, input.parameters);
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
