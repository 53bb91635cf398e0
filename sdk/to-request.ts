import { create } from '@bufbuild/protobuf';
import {
  type AdapterSelection,
  AdapterSelectionSchema,
  GenerationParametersSchema,
  type PredictInput as InputMessage,
  type GenerationParameters as ParametersMessage,
  PredictInputSchema,
  PredictRequestSchema,
  type PredictRequest as RequestMessage,
} from '../gen/loramux/v1/inference_pb.js';
import { asRequest, refuseUnknownFields } from './known-fields.js';
import { giveOwnLists } from './own-lists.js';
import type { AdapterChoice, GenerationParameters, PredictInput, PredictParams } from './types.js';
import { refuseNoRecord } from './unknown-fields.js';

type Selection = { case: 'adapter'; value: string } | { case: 'selection'; value: AdapterSelection };

function selection(choice: AdapterChoice | undefined): Selection | { case: undefined } {
  if (choice === undefined) return { case: undefined };
  if (choice === null || typeof choice === 'string') return { case: 'adapter', value: choice ?? '' };
  const list = (Array.isArray(choice) ? choice : [choice]) as Exclude<AdapterChoice, readonly unknown[] | null>[];
  const adapters = list.map((one) => (typeof one === 'string' ? { name: one } : definedOnly(one)));
  return { case: 'selection', value: create(AdapterSelectionSchema, { adapters }) };
}

/** Absent and undefined are the same to users, but not to the message runtime. */
function definedOnly<T extends object>(value: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  const entries = Object.entries(value).filter(([, one]) => one !== undefined);
  return Object.fromEntries(entries) as { [K in keyof T]: Exclude<T[K], undefined> };
}

function parameters(value: GenerationParameters | undefined): ParametersMessage | undefined {
  if (value === undefined) return undefined;
  const { stop = [], stopTokenIds = [], logitBias = {}, ...scalars } = value;
  // A text can be spread too: its letters would be the stops.
  for (const [name, list] of Object.entries({ stop, stopTokenIds })) {
    if (typeof list === 'string' || !(Symbol.iterator in Object(list)))
      throw new TypeError(`${name} must be a list, also for one`);
  }
  refuseNoRecord(logitBias, 'logitBias');
  return create(GenerationParametersSchema, {
    ...definedOnly(scalars),
    stop: [...stop],
    stopTokenIds: [...stopTokenIds],
    logitBias: { ...logitBias },
  });
}

function input(value: PredictInput): InputMessage {
  if (typeof value === 'string') return create(PredictInputSchema, { prompt: { case: 'text', value } });
  if (Array.isArray(value)) return input({ tokenIds: value as readonly number[] });
  const one = value as Exclude<PredictInput, string | readonly number[]>;
  const own = parameters(one.parameters);
  const message = create(PredictInputSchema, {
    adapters: selection(one.adapter),
    ...(own && { parameters: own }),
  });
  const given = [one.text, one.tokenIds, one.messages].filter((prompt) => prompt !== undefined);
  if (given.length !== 1) throw new TypeError('an input needs exactly one of text, tokenIds, messages');
  if (one.text !== undefined) message.prompt = { case: 'text', value: one.text };
  else if (one.tokenIds !== undefined) {
    const { prompt } = create(PredictInputSchema, {
      prompt: { case: 'tokenIds', value: { ids: [...one.tokenIds] } },
    });
    message.prompt = prompt;
  } else if (one.messages !== undefined) {
    const messages = one.messages.map(({ role, content }) => ({ role, content }));
    const { prompt } = create(PredictInputSchema, {
      prompt: { case: 'chat', value: { messages, template: one.template ?? '' } },
    });
    message.prompt = prompt;
  }
  return message;
}

/** What an input says of its own parameters; a bare text or list of ids has none. */
const parametersOf = (value: PredictInput): GenerationParameters | undefined =>
  typeof value === 'string' || !('parameters' in value) ? undefined : value.parameters;

/**
 * Makes the message of a request in any of the forms that users may write.
 *
 * @throws TypeError for an input without a prompt, or with two, and for a field that does not exist
 */
export function toRequest(params: PredictParams): RequestMessage {
  refuseUnknownFields(params);
  const request = asRequest(params);
  const inputs = typeof request.inputs === 'string' ? [request.inputs] : request.inputs;
  const messages = inputs.map(input);
  const own = parameters(request.parameters);
  if (own !== undefined) giveOwnLists(own, messages, inputs.map(parametersOf));
  return create(PredictRequestSchema, {
    model: request.model ?? '',
    inputs: messages,
    defaultAdapters: selection(request.adapter),
    ...(own && { parameters: own }),
    returnTokens: request.returnTokens ?? false,
    ...(request.priority !== undefined && { priority: request.priority }),
  });
}
