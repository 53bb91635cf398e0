/** Rows whose adapter has a vocabulary of its own, once their leases tell so. */
import { AppError } from '../errors.js';
import { withAddedTokens } from '../text/added-tokens.js';
import { type PlannedRow, readPrompt } from './plan-rows.js';
import type { AdapterLease, LoadedModel } from './ports.js';

/** A row, and the model as its adapter has it. */
export interface FittedRow {
  readonly row: PlannedRow;
  readonly model: LoadedModel;
}

/**
 * The row as its leased adapters have it: encoded and decoded with the tokens that they add, and ended by those that end
 * a sequence there. Only one of a selection can have a vocabulary of its own.
 * @throws AppError INVALID_REQUEST for ids that the row cannot know; CONTEXT_LENGTH_EXCEEDED, CHAT_TEMPLATE_FAILED
 */
export function fitToVocabulary(row: PlannedRow, model: LoadedModel, leases: readonly AdapterLease[]): FittedRow {
  const own = leases.find(({ vocabulary }) => vocabulary !== undefined)?.vocabulary;
  if (own === undefined) return { row: checked(row, model.info.vocabSize), model };
  const { size, tokens } = own;
  const extended: LoadedModel = {
    ...model,
    info: { ...model.info, vocabSize: size },
    tokenizer: withAddedTokens(model.tokenizer, tokens),
    eosIds: [...new Set([...model.eosIds, ...tokens.filter(({ ends }) => ends).map(({ id }) => id)])],
  };
  const fitted = { ...row, ...readPrompt(row.prompt, row.parameters, row.index, extended) };
  return { row: checked(fitted, size), model: extended };
}

/** Refuses ids that the row cannot know: until now only their form was checked. */
function checked(row: PlannedRow, size: number): PlannedRow {
  const { stopTokenIds, logitBias } = row.parameters;
  const places: [field: string, ids: Iterable<number>][] = [
    [`inputs[${row.index}].token_ids`, row.promptIds],
    ['parameters.stop_token_ids', stopTokenIds],
    ['parameters.logit_bias', logitBias?.keys() ?? []],
  ];
  for (const [field, ids] of places) {
    const beyond = [...ids].find((id) => id >= size);
    if (beyond === undefined) continue;
    const description = `must be ids between 0 and ${size - 1} for what input ${row.index} selects, but one is ${beyond}`;
    throw new AppError('INVALID_REQUEST', `${field}: ${description}`, { violations: [{ field, description }] });
  }
  return row;
}
