import type {
  AdapterSelection as AdapterSelectionMessage,
  PredictInput as InputMessage,
  GenerationParameters as ParametersMessage,
  PredictRequest as RequestMessage,
  StreamPredictRequest as StreamRequestMessage,
} from '../../gen/loramux/v1/inference_pb.js';
import { AppError } from '../errors.js';
import type { AdapterSelection, GenerationParameters, PredictInput, PredictRequest, Prompt } from '../service/types.js';

type SelectionCase =
  | { readonly case: 'adapter'; readonly value: string }
  | { readonly case: 'selection'; readonly value: AdapterSelectionMessage }
  | { readonly case: undefined; readonly value?: undefined };

/** Presence is choice: nothing set leaves the choice open, an empty name or list chooses the base model. */
function selection(choice: SelectionCase): AdapterSelection | undefined {
  if (choice.case === undefined) return undefined;
  if (choice.case === 'adapter') return choice.value === '' ? [] : [{ name: choice.value, weight: 1 }];
  return choice.value.adapters.map(({ name, weight }) => ({ name, weight: weight ?? 1 }));
}

/** Only what the message carries: an absent field must not hide the default or the request-wide value. */
function parameters(message: ParametersMessage | undefined): Partial<GenerationParameters> | undefined {
  if (message === undefined) return undefined;
  const { $typeName: _, $unknown: __, stop, stopTokenIds, logitBias, ...scalars } = message;
  const biases = Object.entries(logitBias);
  const present = Object.entries(scalars).filter(([, value]) => value !== undefined);
  return {
    ...(Object.fromEntries(present) as Partial<GenerationParameters>),
    ...(stop.length > 0 && { stop }),
    ...(stopTokenIds.length > 0 && { stopTokenIds }),
    ...(biases.length > 0 && { logitBias: new Map(biases.map(([id, bias]) => [Number(id), bias])) }),
  };
}

function prompt(input: InputMessage, index: number): Prompt {
  switch (input.prompt.case) {
    case 'text':
      return { kind: 'text', text: input.prompt.value };
    case 'tokenIds':
      return { kind: 'tokens', tokenIds: input.prompt.value.ids };
    case 'chat':
      return {
        kind: 'chat',
        messages: input.prompt.value.messages.map(({ role, content }) => ({ role, content })),
        ...(input.prompt.value.template !== '' && { template: input.prompt.value.template }),
      };
    default:
      throw new AppError('INVALID_REQUEST', `inputs[${index}].prompt: one of text, token_ids, chat must be given`);
  }
}

function predictInput(input: InputMessage, index: number): PredictInput {
  return {
    prompt: prompt(input, index),
    adapters: selection(input.adapters),
    parameters: parameters(input.parameters),
  };
}

/** Translates a request that passed the rules of the schema. */
export function fromRequest(message: RequestMessage | StreamRequestMessage): PredictRequest {
  return {
    model: message.model === '' ? undefined : message.model,
    inputs: message.inputs.map(predictInput),
    adapters: selection(message.defaultAdapters),
    parameters: parameters(message.parameters),
  };
}

/** Whether the answer to an input lists its tokens: when asked for, or when log-probabilities were. */
export function wantsTokens(message: RequestMessage | StreamRequestMessage): (index: number) => boolean {
  const all = message.returnTokens || message.parameters?.logprobs !== undefined;
  return (index) => all || message.inputs[index]?.parameters?.logprobs !== undefined;
}
