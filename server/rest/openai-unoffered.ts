/** Fields of OpenAI's API that would shape the answer in a way that is not offered here: to pass over them would answer something else. */
import { isObject } from './body.js';
import { invalidField } from './fields.js';

/** A field, when it asks for something, and what the caller is told then. */
interface Unoffered {
  readonly asks: (value: unknown, body: Record<string, unknown>) => boolean;
  readonly description: string;
}

const isGiven = (value: unknown): boolean => value !== undefined && value !== null;
const isFull = (value: unknown): boolean => isGiven(value) && !(Array.isArray(value) && value.length === 0);
/** Words of `tool_choice` and `function_call` that ask for no call. */
const isFree = (choice: unknown): boolean => !isGiven(choice) || choice === 'none' || choice === 'auto';

const NO_TOOLS = 'is not offered: answers are texts, and no tool is called; leave it out';
const NO_SCHEMA = 'is not offered: no answer is held to a grammar or a schema; leave it out';

/** By their names; what they ask for besides is told as unused, or is what is done anyway. */
const UNOFFERED: Readonly<Record<string, Unoffered>> = {
  tools: { asks: (tools, { tool_choice: choice }) => isFull(tools) && choice !== 'none', description: NO_TOOLS },
  tool_choice: { asks: (choice) => !isFree(choice), description: NO_TOOLS },
  functions: { asks: (list, { function_call: choice }) => isFull(list) && choice !== 'none', description: NO_TOOLS },
  function_call: { asks: (choice) => !isFree(choice), description: NO_TOOLS },
  response_format: {
    asks: (format) => isGiven(format) && !(isObject(format) && format.type === 'text'),
    description: 'must be {"type": "text"}: no answer is held to JSON or a schema',
  },
  structured_outputs: { asks: isGiven, description: NO_SCHEMA },
  guided_json: { asks: isGiven, description: NO_SCHEMA },
  guided_regex: { asks: isGiven, description: NO_SCHEMA },
  guided_choice: { asks: isGiven, description: NO_SCHEMA },
  guided_grammar: { asks: isGiven, description: NO_SCHEMA },
  suffix: {
    asks: (suffix) => isGiven(suffix) && suffix !== '',
    description: 'is not offered: an answer follows its prompt, and goes before no text; leave it out',
  },
  modalities: {
    asks: (list) => isGiven(list) && !(Array.isArray(list) && list.every((one) => one === 'text')),
    description: 'must be ["text"]: answers are texts',
  },
  web_search_options: { asks: isGiven, description: 'is not offered: nothing is looked up; leave it out' },
  use_beam_search: { asks: (value) => value === true, description: 'must be false: beam search is not offered' },
  top_logprobs: {
    asks: (count, { messages, logprobs }) =>
      messages !== undefined && isGiven(count) && count !== 0 && logprobs !== true,
    description: 'needs "logprobs": true beside it',
  },
};

const NO_CALLS = 'is not offered: no chat template is given calls of tools; send what they said as content';
/** Fields of messages that hold calls of tools. */
const CALLS = ['tool_calls', 'function_call'];

/**
 * @param body of a path below `/v1`
 * @throws AppError INVALID_REQUEST naming the first field that asks for what is not offered
 */
export function refuseUnoffered(body: Record<string, unknown>): void {
  for (const [field, { asks, description }] of Object.entries(UNOFFERED)) {
    if (field in body && asks(body[field], body)) throw invalidField(field, description);
  }
  const { messages } = body;
  for (const [index, message] of (Array.isArray(messages) ? messages : []).entries()) {
    const call = isObject(message) ? CALLS.find((name) => isFull(message[name])) : undefined;
    if (call !== undefined) throw invalidField(`messages[${index}].${call}`, NO_CALLS);
  }
}
