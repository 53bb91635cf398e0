/** From a request to rows that can be submitted: everything that can be wrong with a request is found here. */
import { randomInt } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { AppError, type FieldViolation } from '../errors.js';
import { drawnSamples } from './best-of.js';
import { encodeJob } from './encode-job.js';
import type { EncodedText, EncodeJob } from './encode-messages.js';
import { mergeParameters, parameterViolations } from './parameters.js';
import type { LoadedModel } from './ports.js';
import type {
  AdapterSelection,
  ChatMessage,
  GenerationParameters,
  PredictInput,
  PredictRequest,
  Prompt,
} from './types.js';

/** One sample of an input, checked and encoded. */
export interface PlannedRow {
  /** Of the input. */
  readonly index: number;
  /** Which of the input's samples, from 0. */
  readonly sample: number;
  readonly prompt: Prompt;
  readonly promptIds: readonly number[];
  /** What the answer begins with when the full text is asked for, else ''. */
  readonly promptText: string;
  readonly selection: AdapterSelection;
  readonly parameters: GenerationParameters;
  readonly seed: number;
  /** Why the model's own tokenizer and template cannot read the prompt; those of an adapter may. */
  readonly fault?: AppError | undefined;
}

/** A prompt as the model reads it. */
export type ReadPrompt = Pick<PlannedRow, 'promptIds' | 'promptText'>;

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
      violations.push({ field: `${path}.parameters.best_of`, description });
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

/**
 * A prompt's ids, as many of them as are used, and what the answer begins with.
 * @throws AppError INVALID_REQUEST, CHAT_TEMPLATE_FAILED, CONTEXT_LENGTH_EXCEEDED
 */
export async function readPrompt(
  prompt: Prompt,
  parameters: GenerationParameters,
  index: number,
  model: LoadedModel,
  signal?: AbortSignal,
): Promise<ReadPrompt> {
  const { ids: promptIds, count, whole } = await encode(prompt, parameters, model, signal);
  if (!whole) throw farTooLong(count, model.info.contextLength, index);
  if (promptIds.length === 0) refuse([{ field: `inputs[${index}]`, description: 'the prompt holds no tokens' }]);
  checkLength(promptIds.length, parameters.maxNewTokens, model.info.contextLength, index);
  const cut = promptIds.length < count;
  const promptText = parameters.returnFullText ? promptTextOf(prompt, promptIds, cut, model) : '';
  return { promptIds, promptText };
}

function promptViolations(prompt: Prompt, path: string, vocabSize: number): FieldViolation[] {
  if (prompt.kind === 'chat') {
    return prompt.messages.length > 0 ? [] : [{ field: `${path}.chat.messages`, description: 'must not be empty' }];
  }
  if (prompt.kind === 'text') return [];
  const at = prompt.tokenIds.findIndex((id) => !(Number.isInteger(id) && id >= 0 && id < vocabSize));
  if (at < 0) return [];
  const description = `must be an id between 0 and ${vocabSize - 1}, but is ${prompt.tokenIds[at]}`;
  return [{ field: `${path}.token_ids[${at}]`, description }];
}

function selectionViolations(selection: AdapterSelection, path: string): FieldViolation[] {
  const violations: FieldViolation[] = [];
  const seen = new Set<string>();
  for (const [index, { name, weight }] of selection.entries()) {
    const add = (field: string, description: string): void => {
      violations.push({ field: `${path}[${index}].${field}`, description });
    };
    if (name === '') add('name', 'must not be empty; an empty list selects the base model');
    if (seen.has(name)) add('name', `adapter ${JSON.stringify(name)} is listed twice; give it the sum of the weights`);
    seen.add(name);
    if (!Number.isFinite(weight)) add('weight', `must be a finite number, but is ${weight}`);
  }
  return violations;
}

/** Longer texts are encoded in a thread of their own, in characters: here they would hold everybody up noticeably. */
const LONG_TEXT = 32_768;
/** What rendering a message takes, as the encoding of so many characters. */
const MESSAGE_CHARS = 64;

/** The ids of a prompt that are used. */
async function encode(
  prompt: Prompt,
  { truncate: last }: GenerationParameters,
  model: LoadedModel,
  signal: AbortSignal | undefined,
): Promise<EncodedText> {
  if (prompt.kind === 'tokens') {
    const { tokenIds: ids } = prompt;
    return { ids: last === undefined ? ids : ids.slice(-last), count: ids.length, whole: true };
  }
  // A template writes the special tokens itself; and the last tokens of a prompt are known once all of it is read.
  const addSpecialTokens = prompt.kind === 'text';
  const most = last === undefined ? model.info.contextLength : Number.POSITIVE_INFINITY;
  const jobOf = (source: EncodeJob['source']): EncodeJob => ({
    ...{ source, addSpecialTokens, most, last, added: [], over: [] },
  });
  const { encodeAside = async (job) => encodeJob(model, job) } = model;
  if (prompt.kind === 'chat') {
    const { messages, template } = prompt;
    if (isLong(messages)) return encodeAside(jobOf({ messages, template }), signal);
  }
  const text = prompt.kind === 'text' ? prompt.text : model.chatTemplate.render(prompt.messages, true, prompt.template);
  // A template may make much of little.
  return text.length > LONG_TEXT ? encodeAside(jobOf(text), signal) : encodeJob(model, jobOf(text));
}

/** True for a chat that takes too long to be rendered here. */
function isLong(messages: readonly ChatMessage[]): boolean {
  let size = messages.length * MESSAGE_CHARS;
  for (const { role, content } of messages) {
    if (size > LONG_TEXT) break;
    size += role.length + content.length;
  }
  return size > LONG_TEXT;
}

function promptTextOf(prompt: Prompt, promptIds: readonly number[], cut: boolean, { tokenizer }: LoadedModel): string {
  return prompt.kind === 'text' && !cut ? prompt.text : tokenizer.decode(promptIds, true);
}

function checkLength(promptTokens: number, maxNewTokens: number, contextLength: number, index: number): void {
  if (promptTokens + maxNewTokens <= contextLength) return;
  const room = contextLength - promptTokens;
  const advice =
    room > 0 ? `at most ${room} new tokens fit` : 'the prompt alone leaves no room (truncate keeps its last tokens)';
  const message =
    `inputs[${index}]: ${promptTokens} prompt tokens and ${maxNewTokens} new tokens are ` +
    `${promptTokens + maxNewTokens}, but the context holds ${contextLength}; ${advice}`;
  throw exceeded(message, index, {
    prompt_tokens: String(promptTokens),
    max_new_tokens: String(maxNewTokens),
    context_length: String(contextLength),
  });
}

/** @param atLeast tokens of the prompt, which was not read to its end */
function farTooLong(atLeast: number, contextLength: number, index: number): AppError {
  const message =
    `inputs[${index}]: the prompt has more than ${atLeast} tokens, but the context holds ${contextLength} ` +
    '(truncate keeps its last tokens)';
  return exceeded(message, index, { context_length: String(contextLength) });
}

function exceeded(message: string, index: number, facts: Readonly<Record<string, string>>): AppError {
  return new AppError('CONTEXT_LENGTH_EXCEEDED', message, {
    metadata: { input: String(index), ...facts },
    violations: [{ field: `inputs[${index}]`, description: message }],
  });
}

function refuse(violations: readonly FieldViolation[]): void {
  const [first] = violations;
  if (first === undefined) return;
  const more = violations.length > 1 ? ` (and ${violations.length - 1} more)` : '';
  throw new AppError('INVALID_REQUEST', `${first.field}: ${first.description}${more}`, { violations });
}
