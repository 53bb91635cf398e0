/** From a request to rows that can be submitted: everything that can be wrong with a request is found here. */
import { randomInt } from 'node:crypto';
import { AppError, type FieldViolation } from '../errors.js';
import { mergeParameters, parameterViolations } from './parameters.js';
import type { LoadedModel } from './ports.js';
import type { AdapterSelection, GenerationParameters, PredictRequest, Prompt } from './types.js';

/** One input, checked and encoded. */
export interface PlannedRow {
  readonly index: number;
  readonly promptIds: readonly number[];
  /** What the answer begins with when the full text is asked for, else ''. */
  readonly promptText: string;
  readonly selection: AdapterSelection;
  readonly parameters: GenerationParameters;
  readonly seed: number;
}

/**
 * Checks a whole request against the model and encodes its prompts.
 * @throws AppError INVALID_REQUEST (all broken fields), CHAT_TEMPLATE_FAILED, CONTEXT_LENGTH_EXCEEDED
 */
export function planRows(request: PredictRequest, model: LoadedModel, maxInputs: number): PlannedRow[] {
  const { inputs } = request;
  const { vocabSize } = model.info;
  const count = inputs.length;
  if (count === 0 || count > maxInputs) {
    const need =
      count === 0 ? 'must hold at least one input' : `may hold at most ${maxInputs} inputs, but holds ${count}`;
    refuse([{ field: 'inputs', description: need }]);
  }
  // Faults of the request-wide values are told once, at their own place.
  const shared = [
    ...parameterViolations(mergeParameters(request.parameters), 'parameters', vocabSize),
    ...selectionViolations(request.adapters ?? [], 'adapters'),
  ];
  refuse(shared);
  const violations: FieldViolation[] = [];
  for (const [index, input] of inputs.entries()) {
    const path = `inputs[${index}]`;
    const parameters = mergeParameters(request.parameters, input.parameters);
    violations.push(
      ...promptViolations(input.prompt, path, vocabSize),
      ...(input.parameters ? parameterViolations(parameters, `${path}.parameters`, vocabSize) : []),
      ...selectionViolations(input.adapters ?? [], `${path}.adapters`),
    );
  }
  refuse(violations);

  return inputs.map((input, index) => {
    const parameters = mergeParameters(request.parameters, input.parameters);
    const promptIds = encode(input.prompt, model);
    if (promptIds.length === 0) refuse([{ field: `inputs[${index}]`, description: 'the prompt holds no tokens' }]);
    checkLength(promptIds.length, parameters.maxNewTokens, model.info.contextLength, index);
    return {
      index,
      promptIds,
      promptText: parameters.returnFullText ? promptTextOf(input.prompt, promptIds, model) : '',
      selection: input.adapters ?? request.adapters ?? [],
      parameters,
      seed: parameters.seed ?? randomInt(2 ** 32),
    };
  });
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

function encode(prompt: Prompt, { tokenizer, chatTemplate }: LoadedModel): readonly number[] {
  switch (prompt.kind) {
    case 'text':
      return tokenizer.encode(prompt.text, true);
    case 'tokens':
      return prompt.tokenIds;
    case 'chat':
      // The template writes the special tokens itself.
      return tokenizer.encode(chatTemplate.render(prompt.messages, true), false);
  }
}

function promptTextOf(prompt: Prompt, promptIds: readonly number[], { tokenizer }: LoadedModel): string {
  return prompt.kind === 'text' ? prompt.text : tokenizer.decode(promptIds, true);
}

function checkLength(promptTokens: number, maxNewTokens: number, contextLength: number, index: number): void {
  if (promptTokens + maxNewTokens <= contextLength) return;
  const room = contextLength - promptTokens;
  const advice = room > 0 ? `at most ${room} new tokens fit` : 'the prompt alone leaves no room';
  const message =
    `inputs[${index}]: ${promptTokens} prompt tokens and ${maxNewTokens} new tokens are ` +
    `${promptTokens + maxNewTokens}, but the context holds ${contextLength}; ${advice}`;
  throw new AppError('CONTEXT_LENGTH_EXCEEDED', message, {
    metadata: {
      input: String(index),
      prompt_tokens: String(promptTokens),
      max_new_tokens: String(maxNewTokens),
      context_length: String(contextLength),
    },
    violations: [{ field: `inputs[${index}]`, description: message }],
  });
}

function refuse(violations: readonly FieldViolation[]): void {
  const [first] = violations;
  if (first === undefined) return;
  const more = violations.length > 1 ? ` (and ${violations.length - 1} more)` : '';
  throw new AppError('INVALID_REQUEST', `${first.field}: ${first.description}${more}`, { violations });
}
