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

function checked(row: PlannedRow, size: number): PlannedRow {
  const at = row.promptIds.findIndex((id) => id >= size);
  if (at < 0) return row;
  const field = `inputs[${row.index}].token_ids`;
  const description = `must be ids between 0 and ${size - 1} for what the input selects, but token ${at} is ${row.promptIds[at]}`;
  throw new AppError('INVALID_REQUEST', `${field}: ${description}`, { violations: [{ field, description }] });
}
