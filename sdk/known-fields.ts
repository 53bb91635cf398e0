/**
 * Fields of requests that do not exist. JavaScript lets them pass, and TypeScript does in an object that has a name of its
 * own; passed over they would be answered by another adapter, the base model, or with other parameters than were meant.
 */
import { looksLikeAdapter } from './adapter-names.js';
import { refuseAdapters } from './misplaced.js';
import { refuseUnknownParameters } from './parameter-names.js';
import type { AdapterChoice, PredictInput, PredictParams, PredictRequest } from './types.js';
import { refuseOthers } from './unknown-fields.js';

type Fields<T> = readonly (keyof T & string)[];

const REQUEST: Fields<PredictRequest> = ['model', 'inputs', 'adapter', 'parameters', 'returnTokens', 'priority'];
const INPUT = ['text', 'tokenIds', 'messages', 'template', 'adapter', 'parameters'];
const ENTRY = ['name', 'weight'];

/** What `inputs` and a request itself may be instead of objects. */
type Inputs = PredictRequest['inputs'];

/** The request in its long form. */
export function asRequest(params: PredictParams): PredictRequest {
  const isLong = typeof params === 'object' && params !== null && !Array.isArray(params);
  return isLong ? (params as PredictRequest) : { inputs: params as Inputs };
}

/**
 * Checks what users write for `predict`, `stream` and a handler's `generate`.
 * @throws TypeError for a field that does not exist, and for what is no list of inputs and no selection of adapters
 */
export function refuseUnknownFields(params: PredictParams): void {
  const request = asRequest(params);
  refuseUnread(request, REQUEST, 'a request');
  refuseNoSelection(request.adapter);
  if (request.parameters !== undefined) refuseUnknownParameters(request.parameters);
  const inputs: Inputs = request.inputs;
  if (typeof inputs === 'string') return;
  if (!Array.isArray(inputs)) throw new TypeError('inputs must be a text or a list of inputs');
  for (const input of inputs as readonly PredictInput[]) refuseOfInput(input);
}

function refuseOfInput(input: PredictInput): void {
  if (typeof input === 'string' || Array.isArray(input)) return;
  if (typeof input !== 'object' || input === null)
    throw new TypeError('an input must be a text, a list of token ids, or an object');
  const one = input as Exclude<PredictInput, string | readonly number[]>;
  refuseUnread(one, INPUT, 'an input');
  refuseNoSelection(one.adapter);
  if (one.parameters !== undefined) refuseUnknownParameters(one.parameters);
  if (one.messages !== undefined) refuseNoMessages(one.messages);
}

/** A message without a text would be rendered as an empty one, and another question be answered than was asked. */
function refuseNoMessages(messages: unknown): void {
  if (!Array.isArray(messages)) throw new TypeError('messages must be a list of { role, content }');
  for (const [at, message] of messages.entries()) {
    refuseAdapters(message, 'messages');
    for (const field of ['role', 'content']) {
      if (message[field] == null) throw new TypeError(`messages[${at}].${field} must be a text, not ${message[field]}`);
    }
  }
}

function refuseNoSelection(choice: AdapterChoice | undefined): void {
  if (choice === undefined || choice === null || typeof choice === 'string') return;
  for (const entry of Array.isArray(choice) ? choice : [choice]) {
    if (typeof entry === 'string') continue;
    if (typeof entry !== 'object' || entry === null || typeof entry.name !== 'string')
      throw new TypeError('adapter must be a name, null, { name, weight }, or a list of names and of these');
    refuseOthers(entry, ENTRY, 'an adapter of a request');
    if (entry.weight !== undefined && typeof entry.weight !== 'number')
      throw new TypeError(`weight of adapter ${JSON.stringify(entry.name)} must be a number`);
  }
}

/** As {@link refuseOthers}, with the place of an adapter where the name looks like one. */
function refuseUnread(value: object, known: readonly string[], what: string): void {
  const found = Object.entries(value).find(
    ([name, one]) => one !== undefined && !known.includes(name) && looksLikeAdapter(name),
  );
  if (found !== undefined) throw new TypeError(`${what} has no field ${found[0]}; adapter names its adapter`);
  refuseOthers(value, known, what);
}
