/** What can be wrong with a request before its prompts are read. */
import type { FieldViolation } from '../errors.js';
import { drawnSamples } from './best-of.js';
import { mergeParameters, parameterViolations } from './parameters.js';
import { promptViolations, refuse, selectionViolations } from './request-violations.js';
import type { PredictInput, PredictRequest } from './types.js';

/**
 * @param vocabSize of the model
 * @param maxInputs bound of the inputs, and of the rows that they become
 * @param streamed true: the rows' tokens are given out as they come
 * @throws AppError INVALID_REQUEST, with all broken fields
 */
export function checkRequest(request: PredictRequest, vocabSize: number, maxInputs: number, streamed: boolean): void {
  const { inputs } = request;
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
}

/** Bound of ids where the vocabulary is not known yet. */
const ANY_ID = 2 ** 32;

function isAdapted(input: PredictInput, request: PredictRequest): boolean {
  return (input.adapters ?? request.adapters ?? []).length > 0;
}
