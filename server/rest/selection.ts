/**
 * Which adapters a request asks for. Where it names them in several places, these may agree but not differ, because a
 * silent winner is a silent wrong answer.
 */
import { AppError } from '../errors.js';
import { selectionText } from '../service/selection-text.js';
import type { AdapterSelection } from '../service/types.js';
import { type AdapterPlaces, inOrder } from './adapter-places.js';
import { isObject } from './body.js';
import type { Compat } from './compat.js';
import { invalidField, kindOf } from './fields.js';

/** Shape of the inputs that the selection is for. */
export interface InputShape {
  readonly count: number;
  /** False: `inputs` was a single text, not a list. */
  readonly isList: boolean;
}

const BASE: AdapterSelection = [];

/**
 * Places may agree but not differ, except in mode `djl`, where the first of {@link inOrder} decides.
 * @returns one selection per input; undefined where no place names any
 * @throws CONFLICTING_ADAPTERS, ADAPTER_COUNT_MISMATCH, INVALID_REQUEST
 */
export function selectAdapters(
  places: AdapterPlaces,
  inputs: InputShape,
  compat: Compat = 'strict',
): readonly AdapterSelection[] | undefined {
  const everyInput = (name: string) => Array<AdapterSelection>(inputs.count).fill(named(name));
  const given = inOrder(places).map((one) => ({
    place: one.place,
    selections: 'name' in one ? everyInput(one.name) : fromBody(one.field, inputs),
  }));
  const [first, ...others] = given;
  if (!first) return undefined;
  if (compat === 'djl') return first.selections;
  for (const other of others) {
    const at = first.selections.findIndex((selection, index) => !sameSelection(selection, other.selections[index]!));
    if (at < 0) continue;
    const one = describe(first.selections[at]!);
    const two = describe(other.selections[at]!);
    throw new AppError(
      'CONFLICTING_ADAPTERS',
      `${first.place} asks for ${one}, ${other.place} for ${two}; name the adapter once, or the same everywhere`,
      { metadata: { adapter: one, other: two } },
    );
  }
  return first.selections;
}

function named(name: string): AdapterSelection {
  return name === '' ? BASE : [{ name, weight: 1 }];
}

/**
 * Field `adapters`: a name, null or "" (base) for every input; or a list with one entry per input, each a name, null,
 * "", an object {name, weight} or a list of such objects (their weighted sum). For a single text input a list of
 * objects is its weighted sum. An empty list is the base for every input, as in DJL Serving.
 */
function fromBody(value: unknown, inputs: InputShape): readonly AdapterSelection[] {
  const every = (selection: AdapterSelection) => Array<AdapterSelection>(inputs.count).fill(selection);
  if (!Array.isArray(value)) return every(fromEntry(value, 'adapters'));
  if (value.length === 0) return every(BASE);
  if (!inputs.isList && value.every(isObject)) return every(fromEntry(value, 'adapters'));
  if (value.length !== inputs.count) {
    const mix = value.every(isObject) ? '; for a weighted sum write one list of objects per input: [[...]]' : '';
    throw new AppError(
      'ADAPTER_COUNT_MISMATCH',
      `adapters has ${value.length} entries for ${inputs.count} inputs; give one per input, or one text for all${mix}`,
      { metadata: { adapters: String(value.length), inputs: String(inputs.count) } },
    );
  }
  return value.map((entry, index) => fromEntry(entry, `adapters[${index}]`));
}

function fromEntry(value: unknown, field: string): AdapterSelection {
  if (value === null || value === '') return BASE;
  if (typeof value === 'string') return named(value);
  if (isObject(value)) return [fromWeighted(value, field)];
  if (Array.isArray(value)) return value.map((entry, index) => fromWeighted(entry, `${field}[${index}]`));
  throw invalidField(field, `must be an adapter's name, null, or a weighted list, not ${kindOf(value)}`);
}

function fromWeighted(value: unknown, field: string): AdapterSelection[number] {
  if (!isObject(value)) {
    throw invalidField(field, `must be an object such as {"name": "a", "weight": 0.5}, not ${kindOf(value)}`);
  }
  const { name, weight = 1, ...rest } = value;
  if (typeof name !== 'string' || name === '') {
    throw invalidField(`${field}.name`, `must be an adapter's name, not ${kindOf(name)}`);
  }
  if (typeof weight !== 'number' || !Number.isFinite(weight)) {
    throw invalidField(`${field}.weight`, `must be a number, not ${kindOf(weight)}`);
  }
  const [unknown] = Object.keys(rest);
  if (unknown !== undefined) throw invalidField(`${field}.${unknown}`, 'is not known; an entry has name and weight');
  return { name, weight };
}

/**
 * What an answer calls the model: the name that the field `model` of the request gave, where that is what answers, as OpenAI's
 * clients expect it; else the model's own.
 */
export function nameOfAnswer(
  model: string,
  field: string | undefined,
  selections: readonly AdapterSelection[] | undefined,
): string {
  if (field === undefined || field === '' || selections === undefined) return model;
  const asked = named(field);
  return selections.every((selection) => sameSelection(selection, asked)) ? field : model;
}

/** Whether two selections ask for the same mix. */
export function sameSelection(a: AdapterSelection, b: AdapterSelection): boolean {
  return a.length === b.length && a.every((one, i) => sameName(one.name, b[i]!.name) && one.weight === b[i]!.weight);
}

/** Names are compared as adapters are registered: in one form of the characters that Unicode has several for. */
export function sameName(a: string, b: string): boolean {
  return a.normalize('NFC') === b.normalize('NFC');
}

const describe = (selection: AdapterSelection): string => selectionText(selection) || 'the base model';
