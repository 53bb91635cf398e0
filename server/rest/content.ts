/** What an inference request carries in its body, whatever the content type: one request object or text. */
import type { FastifyRequest } from 'fastify';
import { AppError } from '../errors.js';
import { type Body, decodeBody, decodeText, refuseRepeatedKeys, requestObject, typeOf } from './body.js';
import { type FormField, isFormType, readForm } from './form.js';

/** Fields of a form that speak about the request and are no part of its body. */
const ABOUT = new Set(['adapter', 'model_name']);
/** Fields of a form that hold JSON; the others are texts. */
const JSON_FIELDS = new Set(['parameters', 'messages', 'stream', 'stream_options']);
/** Fields of `prompt` and `messages` bodies that are no texts; a form spells them as JSON does. */
const VALUE_FIELDS = new Set([
  ...['max_tokens', 'max_completion_tokens', 'n', 'best_of', 'echo', 'seed', 'ignore_eos', 'truncate_prompt_tokens'],
  ...['logprobs', 'top_logprobs', 'prompt_logprobs', 'logit_bias', 'stop_token_ids'],
  ...['temperature', 'top_k', 'top_p', 'min_p', 'typical_p'],
  ...['repetition_penalty', 'presence_penalty', 'frequency_penalty'],
]);
/** Fields that may be repeated for a list, or hold one as JSON. */
const LIST_FIELDS = new Set(['inputs', 'adapters', 'prompt']);

/** The fields of a form; undefined where the body is none. Throws INVALID_REQUEST. */
export async function readFields(request: FastifyRequest): Promise<readonly FormField[] | undefined> {
  const header = request.headers['content-type'];
  const raw = request.body;
  const type = typeOf(header);
  if (!isFormType(type) || !Buffer.isBuffer(raw) || raw.length === 0) return undefined;
  // `curl -d '{...}'` labels JSON as a form.
  if (type.endsWith('urlencoded') && /^\s*\{/.test(raw.toString('utf8', 0, 64))) return undefined;
  return readForm(raw, header!);
}

/** Values of a form's field. */
export function fieldTexts(fields: readonly FormField[] | undefined, name: string): readonly string[] {
  return (fields ?? []).filter((field) => field.name === name).map(textOf);
}

/**
 * The body of a request. In a form the field `data` is the body: a request object, or a text that is one input.
 * Without `data` the fields are those of the request object, or the only field that is left is the body.
 * @param fields what {@link readFields} returned
 * @throws AppError INVALID_REQUEST
 */
export function readBody(request: FastifyRequest, fields: readonly FormField[] | undefined): Body {
  if (fields === undefined) return decodeBody(request.body, request.headers['content-type']);
  return bodyOf(fields.filter(({ name }) => !ABOUT.has(name)));
}

function bodyOf(fields: readonly FormField[]): Body {
  const [data, ...others] = fields.filter(({ name }) => name === 'data');
  if (data !== undefined) {
    if (others.length > 0) throw new AppError('INVALID_REQUEST', 'the form has several fields named data');
    const beside = fields.find(({ name }) => name !== 'data');
    if (beside) {
      throw new AppError('INVALID_REQUEST', `the form has data, which is the whole body, and beside it ${beside.name}`);
    }
    return fieldBody(data);
  }
  const [only, second] = fields;
  if (only === undefined) return { kind: 'none' };
  if (second === undefined && !LIST_FIELDS.has(only.name) && !JSON_FIELDS.has(only.name)) return fieldBody(only);
  return { kind: 'json', value: requestOf(fields) };
}

const textOf = ({ name, value }: FormField): string => decodeText(value, 'utf-8', `the field ${name} of the form`);

/** A field that is the whole body. */
function fieldBody(field: FormField): Body {
  if (field.type !== '') return decodeBody(field.value, field.type);
  const text = textOf(field);
  const request = requestObject(text);
  return request ? { kind: 'json', value: request } : { kind: 'text', text };
}

/** The request object whose fields a form has one by one. */
function requestOf(fields: readonly FormField[]): Record<string, unknown> {
  const request: Record<string, unknown> = {};
  const isOpenAi = fields.some(({ name }) => name === 'prompt' || name === 'messages');
  for (const name of new Set(fields.map((field) => field.name))) {
    const values = fields.filter((field) => field.name === name).map(textOf);
    const [first] = values as [string];
    if (values.length > 1 && !LIST_FIELDS.has(name)) {
      throw new AppError('INVALID_REQUEST', `the form has several fields named ${name}`);
    }
    const isJson = JSON_FIELDS.has(name) || (LIST_FIELDS.has(name) && values.length === 1 && /^\s*\[/.test(first));
    const isValue = isOpenAi && VALUE_FIELDS.has(name);
    request[name] = values.length > 1 ? values : isJson || isValue ? parseField(name, first) : first;
  }
  return request;
}

function parseField(name: string, text: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    // A prompt may begin with a bracket; what must be JSON may not be anything else.
    if (LIST_FIELDS.has(name)) return text;
    // Whoever reads the field says what it must be.
    if (VALUE_FIELDS.has(name)) return text;
    throw new AppError('INVALID_REQUEST', `the field ${name} of the form is not valid JSON`, { cause });
  }
  refuseRepeatedKeys(text, `the field ${name} of the form`);
  return value;
}
