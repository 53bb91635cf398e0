/** Generations that a handler asks for, run by the server's own inference service. */
import { asRequest, refuseUnknownFields } from '../../sdk/known-fields.js';
import type { AdapterChoice, PredictInput, PredictParams, PredictResult, StreamEvent } from '../../sdk/types.js';
import { AppError } from '../errors.js';
import type * as service from '../service/types.js';

/**
 * A request as the SDK has it, as the service takes it.
 * @param model the handler's own model, which is the only one that it may ask
 * @param own the adapter that the handler belongs to: what it generates with, unless it says the base model
 * @throws AppError INVALID_REQUEST for an input without a prompt, for a field that does not exist, for another model, or for
 *   an adapter but its own
 */
export function fromParams(params: PredictParams, model: string, own?: string): service.PredictRequest {
  refuseUnknown(params);
  const { inputs, adapter, parameters, model: named } = asRequest(params);
  if (named !== undefined && named !== model) {
    throw new AppError('INVALID_REQUEST', `a handler generates with its own model, ${model}, and not with ${named}`);
  }
  const list = typeof inputs === 'string' ? [inputs] : inputs;
  return {
    model,
    inputs: list.map((input: PredictInput, index) => fromInput(input, index, own)),
    ...(adapter === undefined && own === undefined
      ? {}
      : { adapters: selection(adapter === undefined ? own! : adapter, own) }),
    ...(parameters === undefined ? {} : { parameters: defined(parameters) }),
  };
}

/** What nothing reads is refused, as the SDK refuses it. */
function refuseUnknown(params: PredictParams): void {
  try {
    refuseUnknownFields(params);
  } catch (cause) {
    throw new AppError('INVALID_REQUEST', (cause as Error).message, { cause });
  }
}

function fromInput(input: PredictInput, index: number, own: string | undefined): service.PredictInput {
  if (typeof input === 'string') return { prompt: { kind: 'text', text: input } };
  if (Array.isArray(input)) return { prompt: { kind: 'tokens', tokenIds: input as readonly number[] } };
  const { text, tokenIds, messages, adapter, parameters } = input as Exclude<PredictInput, string | readonly number[]>;
  const { template } = input as { readonly template?: string | undefined };
  const prompts: service.Prompt[] = [
    ...(text === undefined ? [] : [{ kind: 'text' as const, text }]),
    ...(tokenIds === undefined ? [] : [{ kind: 'tokens' as const, tokenIds }]),
    ...(messages === undefined ? [] : [{ kind: 'chat' as const, messages, template }]),
  ];
  const [prompt, second] = prompts;
  if (prompt === undefined || second !== undefined) {
    throw new AppError('INVALID_REQUEST', `inputs[${index}] needs exactly one of text, tokenIds, messages`);
  }
  return {
    prompt,
    ...(adapter === undefined ? {} : { adapters: selection(adapter, own) }),
    ...(parameters === undefined ? {} : { parameters: defined(parameters) }),
  };
}

function selection(choice: AdapterChoice, own: string | undefined): service.AdapterSelection {
  if (choice === null || choice === '') return [];
  const list = (Array.isArray(choice) ? choice : [choice]) as Exclude<AdapterChoice, readonly unknown[] | null>[];
  const named = list.map((one) =>
    typeof one === 'string' ? { name: one, weight: 1 } : { ...one, weight: one.weight ?? 1 },
  );
  const other = named.find(({ name }) => own !== undefined && name !== own);
  if (other !== undefined) {
    const what = `the handler of adapter ${JSON.stringify(own)} generates with it or with the base model`;
    throw new AppError('INVALID_REQUEST', `${what}, and not with ${JSON.stringify(other.name)}`);
  }
  return named;
}

/** Only what was given, so that defaults apply to the rest. */
function defined(parameters: object): Partial<service.GenerationParameters> {
  return Object.fromEntries(Object.entries(parameters).filter(([, value]) => value !== undefined));
}

/** A result as the SDK has it. */
export function toResult(result: service.PredictResult, requestId: string): PredictResult {
  const { index, sample, tokens, promptTokens = [], receipt, ...rest } = result;
  return {
    ...rest,
    inputIndex: index,
    sampleIndex: sample,
    tokens: tokens.map(toToken),
    promptTokens: promptTokens.map(toToken),
    receipt: { ...receipt, adapters: [...receipt.adapters], requestId },
  };
}

/** An event as the SDK has it. */
export function toEvent(event: service.PredictEvent, requestId: string): StreamEvent {
  const place = { inputIndex: event.index, sampleIndex: event.sample };
  return event.type === 'final'
    ? { type: 'final', ...place, result: toResult(event.result, requestId) }
    : { type: 'delta', ...place, text: event.text, tokens: event.tokens.map(toToken) };
}

function toToken({ top, ...token }: service.TokenInfo): PredictResult['tokens'][number] {
  return { ...token, top: [...(top ?? [])] };
}
