/**
 * Services without a model, for tests of what carries them: an answer is the adapters' names in brackets and then the
 * words of the prompt, over and over, until max_new_tokens; cancellation is real and rows are counted.
 */
import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { AppError } from '../../server/errors.js';
import type {
  AdapterInfo,
  AdapterSelection,
  CallContext,
  PredictEvent,
  PredictInput,
  PredictRequest,
  PredictResult,
  Services,
  TokenInfo,
} from '../../server/service/types.js';
import { unmanaged } from '../service/no-management.js';
import { notManaged } from '../service/not-managed.js';

/** The services and what a test may look at and turn. */
export interface EchoServices extends Services {
  /** Rows that are being generated. */
  readonly activeRows: () => number;
  /** What reached the service layer, in order. */
  readonly requests: PredictRequest[];
  /** The calls that they came with. */
  readonly calls: CallContext[];
  /** Answers every further call with this error. */
  fail: AppError | Error | undefined;
  /** Fails streams after this many tokens. */
  failAfterTokens: number | undefined;
}

const MODEL = 'echo';
const FINGERPRINT = createHash('sha256').update(MODEL).digest('hex');
const digestOf = (source: string): string => createHash('sha256').update(source).digest('hex');

function adapter(name: string, source: string, init: Partial<AdapterInfo> = {}): AdapterInfo {
  return {
    model: MODEL,
    name,
    digest: digestOf(source),
    source,
    preload: true,
    pin: false,
    options: {},
    state: 'ready',
    ranks: [8],
    scalings: [2],
    targetModules: ['q_proj', 'v_proj'],
    bytes: 1024,
    features: [],
    warnings: [],
    runningRows: 0,
    createdAt: 1_700_000_000_000,
    updatedAt: 1_700_000_000_000,
    revision: 1,
    ...init,
  };
}

/** @param tokenMs time between two tokens of a row */
export function echoServices(tokenMs = 2): EchoServices {
  const registry = new Map(['french', 'pirate'].map((name) => [name, adapter(name, `adapters/${name}`)]));
  let active = 0;

  const checkModel = (model: string | undefined): void => {
    if (model !== undefined && model !== MODEL) {
      throw new AppError('MODEL_NOT_FOUND', `no model ${model} is served; served: ${MODEL}`, { metadata: { model } });
    }
  };
  const find = (name: string): AdapterInfo => {
    const found = registry.get(name);
    if (found === undefined) {
      throw new AppError('ADAPTER_NOT_FOUND', `no adapter ${name}`, { metadata: { adapter: name } });
    }
    return found;
  };
  const receipt = (selection: AdapterSelection): PredictResult['receipt'] => ({
    model: MODEL,
    baseFingerprint: FINGERPRINT,
    adapters: selection.map(({ name, weight }) => {
      const found = registry.get(name);
      if (found === undefined) {
        const metadata = { adapter: name, near: 'pirate' };
        throw new AppError('ADAPTER_NOT_REGISTERED', `adapter ${name} is not registered; near: pirate`, { metadata });
      }
      return { name, digest: found.digest, weight };
    }),
  });
  const words = (input: PredictInput): string[] => {
    const { prompt } = input;
    if (prompt.kind === 'tokens') return prompt.tokenIds.map(String);
    const text = prompt.kind === 'text' ? prompt.text : prompt.messages.map(({ content }) => content).join(' ');
    return text.split(' ');
  };

  async function* row(request: PredictRequest, index: number, call: CallContext): AsyncGenerator<PredictEvent> {
    const input = request.inputs[index]!;
    const selection = input.adapters ?? request.adapters ?? [];
    const parameters = { maxNewTokens: 30, ...request.parameters, ...input.parameters };
    const label = selection.map(({ name, weight }) => (weight === 1 ? name : `${name}*${weight}`)).join('+');
    const prompt = words(input);
    const proof = receipt(selection);
    const tokens: TokenInfo[] = [];
    active += 1;
    try {
      for (let i = 0; i < parameters.maxNewTokens; i++) {
        await sleep(tokenMs, undefined, { signal: call.signal }).catch((cause) => {
          throw new AppError('CANCELED', 'the client went away', { cause });
        });
        if (fixture.failAfterTokens === i) throw new Error('a secret of the engine');
        const text = i === 0 ? `[${label || 'base'}]` : ` ${prompt[(i - 1) % prompt.length]}`;
        const logprob = parameters.logprobs === undefined ? undefined : -i;
        const top = parameters.logprobs ? [{ id: i, text, logprob: -i }] : undefined;
        const token = { id: i, text, logprob, top, special: false };
        tokens.push(token);
        yield { type: 'delta', index, sample: 0, text, tokens: [token] };
      }
    } finally {
      active -= 1;
    }
    yield {
      type: 'final',
      index,
      sample: 0,
      result: {
        index,
        sample: 0,
        text: tokens.map(({ text }) => text).join(''),
        tokens,
        finishReason: 'length',
        usage: { promptTokens: prompt.length, completionTokens: tokens.length, cachedTokens: 0 },
        timings: { queueMs: 1, prefillMs: 2, decodeMs: 3 },
        receipt: proof,
        seed: parameters.seed ?? 7,
      },
    };
  }

  async function* merge(sources: AsyncGenerator<PredictEvent>[]): AsyncGenerator<PredictEvent> {
    const next = new Map(sources.map((source) => [source, source.next()]));
    try {
      while (next.size > 0) {
        const ready = await Promise.race([...next].map(async ([source, result]) => ({ source, result: await result })));
        if (ready.result.done) next.delete(ready.source);
        else {
          next.set(ready.source, ready.source.next());
          yield ready.result.value;
        }
      }
    } finally {
      for (const result of next.values()) result.catch(() => {});
      await Promise.all(sources.map((source) => source.return(undefined)));
    }
  }

  const start = (request: PredictRequest, call: CallContext): AsyncGenerator<PredictEvent> => {
    fixture.requests.push(request);
    fixture.calls.push(call);
    if (fixture.fail) throw fixture.fail;
    checkModel(request.model);
    for (const input of request.inputs) receipt(input.adapters ?? request.adapters ?? []);
    return merge(request.inputs.map((_, index) => row(request, index, call)));
  };

  const fixture: EchoServices = {
    activeRows: () => active,
    requests: [],
    calls: [],
    fail: undefined,
    failAfterTokens: undefined,
    inference: {
      async predict(request, call) {
        const results: PredictResult[] = [];
        for await (const event of start(request, call)) {
          if (event.type === 'final') results[event.index] = event.result;
        }
        return results;
      },
      async stream(request, call) {
        return start(request, call);
      },
    },
    adapters: {
      ...notManaged,
      async list({ model, pageSize = 0, pageToken = '' }) {
        checkModel(model);
        const sorted = [...registry.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
        const rest = sorted.filter(({ name }) => name > pageToken);
        const adapters = rest.slice(0, pageSize || 100);
        return { adapters, nextPageToken: rest.length > adapters.length ? adapters.at(-1)!.name : '' };
      },
      async get({ name }) {
        return find(name);
      },
      async validate({ source }: { source: string }) {
        return { valid: source !== 'broken', faults: source === 'broken' ? ['it is broken'] : [], tensors: [] };
      },
      async create({ name, source, preload, pin, options }) {
        if (fixture.fail) throw fixture.fail;
        if (registry.has(name)) {
          throw new AppError('ADAPTER_EXISTS', `adapter ${name} is registered already`, {
            metadata: { adapter: name },
          });
        }
        const created = adapter(name, source, {
          preload: preload ?? true,
          pin: pin ?? false,
          options: options ?? {},
          state: (preload ?? true) ? 'ready' : 'registered',
        });
        registry.set(name, created);
        return created;
      },
      async delete({ name }) {
        const deleted = find(name);
        registry.delete(name);
        return deleted;
      },
    },
    ...unmanaged([]),
    models: {
      list: () => [],
      defaultName: () => undefined,
      resolve: () => {
        throw new AppError('UNIMPLEMENTED', 'not needed');
      },
    },
  };
  return fixture;
}
