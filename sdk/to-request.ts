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
import type { AdapterChoice, GenerationParameters, PredictInput, PredictParams, PredictRequest } from './types.js';

type Selection = { case: 'adapter'; value: string } | { case: 'selection'; value: AdapterSelection };

function selection(choice: AdapterChoice | undefined): Selection | { case: undefined } {
  if (choice === undefined) return { case: undefined };
  if (choice === null || typeof choice === 'string') return { case: 'adapter', value: choice ?? '' };
  const list = (Array.isArray(choice) ? choice : [choice]) as Exclude<AdapterChoice, readonly unknown[] | null>[];
  const adapters = list.map((one) => (typeof one === 'string' ? { name: one } : definedOnly(one)));
  return { case: 'selection', value: create(AdapterSelectionSchema, { adapters }) };
}

/**
 * How HTTP bodies, other servers and slips name adapters. JavaScript lets them pass, and passed over they would be answered
 * by another adapter, or the base model. The names that the server refuses in HTTP bodies (server/rest/ignored.ts), but for
 * `adapter`, which is the right one here.
 */
const MISPLACED = new Set([
  ...['adapters', 'adapterid', 'adaptername', 'adapterids', 'adapternames', 'adapterparameters'],
  ...['lora', 'loras', 'loraid', 'loraname', 'lorapath', 'lorarequest', 'loraadapter', 'loraadapters'],
]);

/** @throws TypeError for a field that looks like the place of an adapter */
function refuseMisplaced(value: object, what: string): void {
  const name = Object.entries(value).find(
    ([key, one]) => one !== undefined && MISPLACED.has(key.toLowerCase().replace(/[_-]/g, '')),
  )?.[0];
  if (name !== undefined) throw new TypeError(`${what} has no field ${name}; adapter names its adapter`);
}

/** Absent and undefined are the same to users, but not to the message runtime. */
function definedOnly<T extends object>(value: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  const entries = Object.entries(value).filter(([, one]) => one !== undefined);
  return Object.fromEntries(entries) as { [K in keyof T]: Exclude<T[K], undefined> };
}

function parameters(value: GenerationParameters | undefined): ParametersMessage | undefined {
  if (value === undefined) return undefined;
  refuseMisplaced(value, 'parameters');
  const { stop = [], stopTokenIds = [], logitBias = {}, ...scalars } = value;
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
  refuseMisplaced(one, 'an input');
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

function isRequest(params: PredictParams): params is PredictRequest {
  return typeof params === 'object' && !Array.isArray(params);
}

/**
 * Makes the message of a request in any of the forms that users may write.
 *
 * @throws TypeError for an input without a prompt, or with two, and for a misplaced name of an adapter
 */
export function toRequest(params: PredictParams): RequestMessage {
  const request: PredictRequest = isRequest(params) ? params : { inputs: params };
  refuseMisplaced(request, 'a request');
  const inputs = typeof request.inputs === 'string' ? [request.inputs] : request.inputs;
  const own = parameters(request.parameters);
  return create(PredictRequestSchema, {
    model: request.model ?? '',
    inputs: inputs.map(input),
    defaultAdapters: selection(request.adapter),
    ...(own && { parameters: own }),
    returnTokens: request.returnTokens ?? false,
    ...(request.priority !== undefined && { priority: request.priority }),
  });
}
