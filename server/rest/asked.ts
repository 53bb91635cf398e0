/**
 * What an answer to fetch later was asked from. The token of a fetch names the answer, so that a fetch may name the same model
 * and adapters again, or none: whatever else it named would be passed over, and another's answer come in silence.
 */
import { AppError } from '../errors.js';
import { selectionText } from '../service/selection-text.js';
import type { AdapterSelection, ModelInfo } from '../service/types.js';
import { type AdapterPlaces, inOrder } from './adapter-places.js';
import { type Body, isObject } from './body.js';
import type { Compat } from './compat.js';
import { invalidField } from './fields.js';
import { type InputShape, sameSelection, selectAdapters } from './selection.js';

/** What one answer was asked from; plain data, kept as long as the answer. */
export interface Asked {
  /** The model or workflow, as the request named it. */
  readonly model: string;
  /** The model whose adapters the request may name. */
  readonly owner: string;
  /** Field `model` of the body. */
  readonly modelField: string | undefined;
  readonly from: Answered | Handled;
}

/** The server answers: from these adapters. */
interface Answered extends InputShape {
  readonly by: 'server';
  /** One per input. */
  readonly selections: readonly AdapterSelection[];
}

/** A handler answers, which makes of the places what it likes: what they said. */
interface Handled {
  readonly by: 'handler';
  readonly said: readonly string[];
}

/** What a request asks the server for. @param selections undefined = it names none */
export function askedOfServer(
  model: ModelInfo,
  modelField: string | undefined,
  { count, isList }: InputShape,
  selections: readonly AdapterSelection[] | undefined,
): Asked {
  const own: AdapterSelection = model.answeredWith === undefined ? [] : [{ name: model.answeredWith, weight: 1 }];
  const from: Answered = { by: 'server', count, isList, selections: selections ?? Array(count).fill(own) };
  return { model: model.name, owner: model.answeredBy ?? model.name, modelField, from };
}

/** What a request asks a handler for. @param request its places, and its body where that could be read */
export function askedOfHandler(
  model: ModelInfo,
  { places, read }: { readonly places: AdapterPlaces; readonly read: { readonly value?: Body | undefined } },
  compat: Compat,
): Asked {
  const modelField = modelFieldOf(read.value);
  const own = model.answeredWith === undefined ? [] : [plain(model.answeredWith)];
  const from: Handled = { by: 'handler', said: [...said(places, compat), ...own] };
  return { model: model.name, owner: model.answeredBy ?? model.name, modelField, from };
}

/** @throws AppError INVALID_REQUEST where a fetch names another model than its answer was asked from */
export function requireSameModel(asked: Asked, named: string | undefined): void {
  if (named === undefined || named === asked.model) return;
  throw invalidField(
    'model_name',
    `is ${JSON.stringify(named)}, but the answer of this token was asked from ${JSON.stringify(asked.model)}`,
  );
}

/**
 * @param places of the fetch
 * @param modelField field `model` of its body
 * @returns whether it names adapters
 * @throws AppError CONFLICTING_ADAPTERS where it names others than its answer was asked from; INVALID_REQUEST,
 * ADAPTER_COUNT_MISMATCH as for any request
 */
export function requireSameAdapters(
  asked: Asked,
  places: AdapterPlaces,
  modelField: string | undefined,
  compat: Compat,
): boolean {
  const { from } = asked;
  const known = [undefined, '', asked.model, asked.owner, asked.modelField];
  if (places.modelField === undefined && !known.includes(modelField)) throw others(`model ${modelField}`, asked);
  if (from.by === 'handler') {
    const now = said(places, compat);
    const other = now.find((one) => !from.said.includes(one));
    if (other !== undefined) throw others(other, asked);
    return now.length > 0;
  }
  const selections = selectAdapters(places, from, compat);
  const at = selections?.findIndex((selection, index) => !sameSelection(selection, from.selections[index]!)) ?? -1;
  if (at >= 0) throw others(textOf(selections![at]!), asked, textOf(from.selections[at]!));
  return selections !== undefined;
}

/** Field `model` of a body that has one. */
export function modelFieldOf(body: Body | undefined): string | undefined {
  const value = body?.kind === 'json' && isObject(body.value) ? body.value.model : undefined;
  return typeof value === 'string' ? value : undefined;
}

function others(named: string, { from }: Asked, was?: string): AppError {
  const first = was ?? (from.by === 'handler' ? from.said.join(', ') || 'nothing' : textOf(from.selections[0]!));
  return new AppError(
    'CONFLICTING_ADAPTERS',
    `the fetch asks for ${named}, but the answer of its token was asked from ${first}; name the same, or the token alone`,
    { metadata: { adapter: named, other: first } },
  );
}

const textOf = (selection: AdapterSelection): string => selectionText(selection) || 'the base model';

/** What the places say, however they say it. */
function said(places: AdapterPlaces, compat: Compat): string[] {
  const given = inOrder(places).map((one) => plain('name' in one ? one.name : one.field));
  return compat === 'djl' ? given.slice(0, 1) : given;
}

/** A text for what a place holds: a list of one name is that name, and null, like an empty list, the base model. */
function plain(value: unknown): string {
  if (Array.isArray(value) && value.length < 2) return plain(value[0] ?? '');
  return JSON.stringify(typeof value === 'string' ? value.normalize('NFC') : (value ?? ''));
}
