/**
 * The texts of rows whose adapters bring more than weights: a vocabulary of their own, tokens, an end of the sequence, chat
 * templates. What they bring is known once their leases tell so.
 */
import type { AdapterText } from '../adapters/adapter-text.js';
import { AppError } from '../errors.js';
import { type ExtraToken, withAddedTokens } from '../text/added-tokens.js';
import type { ChatTemplate } from '../text/chat-template.js';
import { overTemplates } from '../text/guarded-template.js';
import type { EncodeAside } from './encode-messages.js';
import type { PlannedRow } from './plan-rows.js';
import type { AdapterLease, LoadedModel } from './ports.js';
import { readPrompt } from './read-prompt.js';

/** A row, and the model as its adapters have it. */
export interface FittedRow {
  readonly row: PlannedRow;
  readonly model: LoadedModel;
}

/**
 * The row as its leased adapters have it: encoded and decoded with the tokens that they add, rendered by their template,
 * and ended by what ends a sequence there.
 * @throws AppError INVALID_REQUEST for ids that the row cannot know; ADAPTER_NOT_MIXABLE for adapters whose texts differ;
 * CONTEXT_LENGTH_EXCEEDED, CHAT_TEMPLATE_FAILED
 */
export async function fitToAdapters(
  row: PlannedRow,
  model: LoadedModel,
  leases: readonly AdapterLease[],
  signal?: AbortSignal,
): Promise<FittedRow> {
  const used = leases.filter(({ weight }) => weight !== 0);
  const size = used.find(({ vocabularySize }) => vocabularySize !== undefined)?.vocabularySize ?? model.info.vocabSize;
  const brought = used.filter(({ text }) => text !== undefined);
  const own = brought.length === 0 ? model : withTexts(model, brought, row.prompt.kind === 'chat');
  if (own === model && size === model.info.vocabSize) {
    if (row.fault !== undefined) throw row.fault;
    return { row: checked(row, size), model };
  }
  const fitted = { ...own, info: { ...model.info, vocabSize: size } };
  const read = await readPrompt(row.prompt, row.parameters, row.index, fitted, signal);
  return { row: checked({ ...row, ...read }, size), model: fitted };
}

/** An adapter and what it brings. */
type Brought = Pick<AdapterLease, 'name' | 'text'>;
/** What of a model is about texts. */
export type Texts = Pick<LoadedModel, 'tokenizer' | 'encodeAside' | 'chatTemplate' | 'eosIds'>;

/**
 * The model with what the adapters, all of which have a `text`, bring; itself where that is nothing new.
 * @param chat true: their chat templates are wanted
 * @throws AppError ADAPTER_NOT_MIXABLE, CHAT_TEMPLATE_FAILED
 */
export function withTexts<T extends Texts>(model: T, brought: readonly Brought[], chat: boolean): T {
  const added = tokensOf(model, brought);
  const tokenizer = withAddedTokens(model.tokenizer, added);
  const ends = brought.flatMap(({ text }) => (text!.endToken === undefined ? [] : [tokenizer.idOf(text!.endToken)]));
  const eosIds = new Set([...model.eosIds, ...ends.filter((id) => id !== undefined)]);
  const own = chat ? templatesOf(brought) : undefined;
  const template = own && overModel(model.chatTemplate, own);
  const same = tokenizer === model.tokenizer && eosIds.size === model.eosIds.length && template === undefined;
  if (same) return model;
  const { encodeAside: inner } = model;
  const encodeAside: EncodeAside | undefined =
    inner &&
    ((job, signal) => {
      const over = own === undefined ? [] : [{ templates: own.templates, specialTokens: own.specialTokens }];
      return inner({ ...job, added: [added, ...job.added], over: [...over, ...job.over] }, signal);
    });
  return { ...model, tokenizer, encodeAside, eosIds: [...eosIds], chatTemplate: template ?? model.chatTemplate };
}

/** The tokens that the adapters add to the model's; two that differ about one are not mixed. */
function tokensOf({ tokenizer }: Texts, brought: readonly Brought[]): ExtraToken[] {
  const added = new Map<string, ExtraToken>();
  const byId = new Map<number, string>();
  for (const { name, text } of brought) {
    for (const token of text!.tokens) {
      if (tokenizer.idOf(token.content) !== undefined) continue;
      if (
        (added.get(token.content)?.id ?? token.id) !== token.id ||
        (byId.get(token.id) ?? token.content) !== token.content
      ) {
        throw notMixable(
          name,
          `its token ${token.id} is ${JSON.stringify(token.content)}, but another selected adapter says otherwise`,
        );
      }
      added.set(token.content, token);
      byId.set(token.id, token.content);
    }
  }
  return [...added.values()];
}

/** Templates are parsed once for an adapter. */
const parsed = new WeakMap<AdapterText, { readonly model: ChatTemplate; readonly template: ChatTemplate }>();

/** What the adapters bring that have templates; undefined where none does. Two that differ are not mixed. */
function templatesOf(brought: readonly Brought[]): AdapterText | undefined {
  const [first, ...others] = brought.filter(({ text }) => text!.templates.length > 0);
  if (first === undefined) return undefined;
  const source = (lease: Brought) => JSON.stringify(lease.text!.templates);
  const other = others.find((lease) => source(lease) !== source(first));
  if (other !== undefined) {
    throw notMixable(
      other.name,
      `its chat template is not that of adapter ${JSON.stringify(first.name)}; send the rendered text`,
    );
  }
  return first.text;
}

function overModel(model: ChatTemplate, text: AdapterText): ChatTemplate {
  const known = parsed.get(text);
  if (known?.model === model) return known.template;
  const template = overTemplates(model, text.templates, text.specialTokens);
  parsed.set(text, { model, template });
  return template;
}

function notMixable(adapter: string, why: string): AppError {
  return new AppError('ADAPTER_NOT_MIXABLE', `adapter ${JSON.stringify(adapter)}: ${why}`, { metadata: { adapter } });
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
