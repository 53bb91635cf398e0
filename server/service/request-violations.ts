/** What is wrong with the prompts and the adapters of a request, field by field. */
import { AppError, type FieldViolation } from '../errors.js';
import type { AdapterSelection, Prompt } from './types.js';

/** @param vocabSize bound of the ids */
export function promptViolations(prompt: Prompt, path: string, vocabSize: number): FieldViolation[] {
  if (prompt.kind === 'chat') {
    return prompt.messages.length > 0 ? [] : [{ field: `${path}.chat.messages`, description: 'must not be empty' }];
  }
  if (prompt.kind === 'text') return [];
  const at = prompt.tokenIds.findIndex((id) => !(Number.isInteger(id) && id >= 0 && id < vocabSize));
  if (at < 0) return [];
  const description = `must be an id between 0 and ${vocabSize - 1}, but is ${prompt.tokenIds[at]}`;
  return [{ field: `${path}.token_ids[${at}]`, description }];
}

/** @param path of the selection in the request */
export function selectionViolations(selection: AdapterSelection, path: string): FieldViolation[] {
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

/** Throws INVALID_REQUEST with all of them, if there are any. */
export function refuse(violations: readonly FieldViolation[]): void {
  const [first] = violations;
  if (first === undefined) return;
  const more = violations.length > 1 ? ` (and ${violations.length - 1} more)` : '';
  throw new AppError('INVALID_REQUEST', `${first.field}: ${first.description}${more}`, { violations });
}
