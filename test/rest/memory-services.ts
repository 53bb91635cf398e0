/**
 * An implementation of the services without a model: words that depend on prompt and adapters alone, one per turn of
 * the event loop, with real cancellation, leases-free deletion and the real error table. For tests of the surface.
 */
import { createHash } from 'node:crypto';
import { existsSync, statSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { AppError } from '../../server/errors.js';
import type {
  AdapterInfo,
  AdapterSelection,
  AdapterService,
  CallContext,
  GenerationParameters,
  InferenceService,
  ModelInfo,
  PredictEvent,
  PredictRequest,
  PredictResult,
  Services,
  TokenInfo,
} from '../../server/service/types.js';
import { unmanaged } from '../service/no-management.js';
import { notManaged } from '../service/not-managed.js';

const WORDS = 'amber birch cedar daisy eagle fern grove haven ivory jade koala lemon maple noble ocean pearl'.split(
  ' ',
);

/** The services, and what tests look at besides. */
export interface MemoryServices extends Services {
  /** Rows that generate right now. */
  readonly running: () => number;
  /** Signals of all calls, in order. */
  readonly calls: CallContext[];
  /** Requests as they reached the service. */
  readonly requests: PredictRequest[];
  /** Lets rows go on whose prompt says HELD; from then on none waits. */
  readonly release: () => void;
}

/** A few models with two adapters each, `one` and `two`; model `plain` has LoRA off. */
export function memoryServices(models: readonly string[] = ['base']): MemoryServices {
  const infos = models.map(modelInfo);
  const adapters = new Map(models.map((model) => [model, new Map(seed(model))]));
  let running = 0;
  let release = () => {};
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  const calls: CallContext[] = [];
  const requests: PredictRequest[] = [];
  const resolve = (name: string | undefined): ModelInfo => {
    const found = name === undefined && infos.length === 1 ? infos[0] : infos.find((info) => info.name === name);
    if (!found) throw new AppError('MODEL_NOT_FOUND', `no model ${name} is served`);
    return found;
  };
  const of = (model: string | undefined) => adapters.get(resolve(model).name)!;

  async function* row(
    index: number,
    request: PredictRequest,
    call: CallContext,
  ): AsyncGenerator<{ token?: TokenInfo; result?: PredictResult }> {
    const input = request.inputs[index]!;
    const selection = input.adapters ?? request.adapters ?? [];
    const parameters = { ...request.parameters, ...input.parameters };
    const prompt = input.prompt.kind === 'text' ? input.prompt.text : JSON.stringify(input.prompt);
    const tokens: TokenInfo[] = [];
    const slow = Number(/SLOW@(\d+)/.exec(prompt)?.[1] ?? 0);
    const endAt = Number(/EOS@(\d+)/.exec(prompt)?.[1] ?? Number.POSITIVE_INFINITY);
    const failAt = Number(/RAISE@(\d+)/.exec(prompt)?.[1] ?? -1);
    const { maxNewTokens = 30 } = parameters;
    const most = Number.isFinite(maxNewTokens) ? maxNewTokens : resolve(request.model).contextLength;
    let text = '';
    let finishReason: PredictResult['finishReason'] = 'length';
    running++;
    try {
      if (prompt.includes('HELD')) await released;
      while (tokens.length < most) {
        await delay(slow, undefined, { signal: call.signal }).catch(() => {});
        if (call.signal.aborted) throw AppError.from(call.signal.reason);
        if (tokens.length === failAt) throw new AppError('ENGINE_FAILED', 'the engine stopped');
        const eos = tokens.length === endAt;
        const token = eos ? eosToken(parameters) : wordToken(prompt, selection, tokens.length, parameters);
        tokens.push(token);
        const stop = parameters.stop?.find((part) => token.text.includes(part));
        if (eos) finishReason = 'eos';
        else if (stop !== undefined) finishReason = 'stop';
        const shown = stop === undefined ? token.text : token.text.slice(0, token.text.indexOf(stop));
        tokens[tokens.length - 1] = { ...token, text: shown };
        text += shown;
        yield { token: tokens.at(-1)! };
        if (finishReason !== 'length') break;
      }
      const base = input.prompt.kind === 'text' && parameters.returnFullText ? input.prompt.text : '';
      yield { result: result(index, base + text, tokens, finishReason, prompt, selection, resolve(request.model)) };
    } finally {
      running--;
    }
  }

  function check(request: PredictRequest): void {
    requests.push(request);
    const known = of(request.model);
    const unknown = request.inputs.flatMap((input) => input.adapters ?? []).find(({ name }) => !known.has(name));
    if (!unknown) return;
    const near = [...known.keys()].filter((name) => name.startsWith(unknown.name.slice(0, 2))).join(', ');
    throw new AppError(
      'ADAPTER_NOT_REGISTERED',
      `adapter "${unknown.name}" is not registered${near ? `; near: ${near}` : ''}`,
      { metadata: { adapter: unknown.name, near } },
    );
  }

  const inference: InferenceService = {
    async predict(request, call) {
      calls.push(call);
      check(request);
      return Promise.all(
        request.inputs.map(async (_input, index) => {
          let last: PredictResult | undefined;
          for await (const step of row(index, request, call)) last = step.result;
          return last!;
        }),
      );
    },
    async stream(request, call) {
      calls.push(call);
      check(request);
      return merge(request.inputs.map((_input, index) => row(index, request, call)));
    },
  };

  const service: AdapterService = {
    ...notManaged,
    async list({ model, pageSize = 0, pageToken = '' }) {
      const sorted = [...of(model).values()].sort((a, b) => (a.name < b.name ? -1 : 1));
      const after = Buffer.from(pageToken, 'base64url').toString();
      if (pageToken !== '' && !after.startsWith('after:')) throw new AppError('INVALID_REQUEST', 'no such page token');
      const rest = sorted.filter((info) => info.name > after.slice(6));
      const page = rest.slice(0, pageSize || 100);
      const more = rest.length > page.length;
      return {
        adapters: page,
        nextPageToken: more ? Buffer.from(`after:${page.at(-1)!.name}`).toString('base64url') : '',
      };
    },
    async get({ model, name }) {
      const found = of(model).get(name);
      if (!found) throw new AppError('ADAPTER_NOT_FOUND', `adapter "${name}" is not registered`);
      return found;
    },
    async validate({ source }: { source: string }) {
      return { valid: source !== 'broken', faults: source === 'broken' ? ['it is broken'] : [], tensors: [] };
    },
    async create(request) {
      const { name, source } = request;
      const known = of(request.model);
      if (known.has(name)) throw new AppError('ADAPTER_EXISTS', `adapter "${name}" is registered already`);
      if (!/^[\w.-]+$/.test(name) || /^\.+$/.test(name)) throw new AppError('INVALID_REQUEST', `bad name "${name}"`);
      if (request.pin && request.preload === false) throw new AppError('INVALID_REQUEST', 'pin needs preload');
      if (!statSync(source, { throwIfNoEntry: false })?.isDirectory()) {
        throw new AppError('ADAPTER_SOURCE_INVALID', `no folder ${source}`);
      }
      if (!existsSync(path.join(source, 'adapter_config.json'))) {
        throw new AppError('ADAPTER_SOURCE_INVALID', `no adapter_config.json in ${source}`);
      }
      const info = adapterInfo(
        resolve(request.model).name,
        name,
        source,
        request.preload ?? true,
        request.pin ?? false,
      );
      known.set(name, { ...info, options: request.options ?? {} });
      return info;
    },
    async delete({ model, name }) {
      const found = of(model).get(name);
      if (!found) throw new AppError('ADAPTER_NOT_FOUND', `adapter "${name}" is not registered`);
      of(model).delete(name);
      return found;
    },
  };

  return {
    inference,
    adapters: service,
    models: { list: () => infos, resolve, defaultName: () => (infos.length === 1 ? infos[0]!.name : undefined) },
    ...unmanaged(infos),
    running: () => running,
    calls,
    requests,
    release,
  };
}

async function* merge(
  rows: AsyncGenerator<{ token?: TokenInfo; result?: PredictResult }>[],
): AsyncGenerator<PredictEvent> {
  const next = new Map(rows.map((row, index) => [index, row.next().then((step) => ({ index, step }))]));
  try {
    while (next.size > 0) {
      const { index, step } = await Promise.race(next.values());
      if (step.done) {
        next.delete(index);
        continue;
      }
      next.set(
        index,
        rows[index]!.next().then((step) => ({ index, step })),
      );
      const { token, result } = step.value;
      if (token) yield { type: 'delta', index, sample: 0, text: token.text, tokens: [token] };
      if (result) yield { type: 'final', index, sample: 0, result };
    }
  } finally {
    for (const row of rows) row.return(undefined).catch(() => {});
  }
}

function digestOf(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

function wordToken(
  prompt: string,
  selection: AdapterSelection,
  at: number,
  parameters: Partial<GenerationParameters>,
): TokenInfo {
  const key = selection.map(({ name, weight }) => `${name}*${weight}`).join('+');
  const id = Number.parseInt(digestOf(`${prompt}|${key}|${at}`).slice(0, 6), 16) % WORDS.length;
  const logprob = -(id + 1) / 8;
  return {
    id,
    text: ` ${WORDS[id]}`,
    special: false,
    ...(parameters.logprobs === undefined ? {} : { logprob, top: [{ id, text: ` ${WORDS[id]}`, logprob }] }),
  };
}

function eosToken(parameters: Partial<GenerationParameters>): TokenInfo {
  return { id: 99, text: '', special: true, ...(parameters.logprobs === undefined ? {} : { logprob: -0.5, top: [] }) };
}

function result(
  index: number,
  text: string,
  tokens: readonly TokenInfo[],
  finishReason: PredictResult['finishReason'],
  prompt: string,
  selection: AdapterSelection,
  model: ModelInfo,
): PredictResult {
  return {
    index,
    sample: 0,
    text,
    tokens,
    finishReason,
    usage: { promptTokens: prompt.split(/\s+/).length, completionTokens: tokens.length, cachedTokens: 0 },
    timings: { queueMs: 1, prefillMs: 2, decodeMs: 3 },
    receipt: {
      model: model.name,
      baseFingerprint: model.fingerprint,
      adapters: selection.map(({ name, weight }) => ({ name, weight, digest: digestOf(name) })),
    },
    seed: 7,
  };
}

function modelInfo(name: string): ModelInfo {
  return {
    name,
    path: `/models/${name}`,
    modelType: 'llama',
    parameters: 1000,
    dtype: 'fp32',
    contextLength: 256,
    vocabSize: 100,
    fingerprint: digestOf(`base ${name}`),
    ready: true,
    loraEnabled: name !== 'plain',
  };
}

function seed(model: string): [string, AdapterInfo][] {
  return ['one', 'two'].map((name) => [
    name,
    adapterInfo(model, name, `/models/${model}/adapters/${name}`, true, false),
  ]);
}

function adapterInfo(model: string, name: string, source: string, preload: boolean, pin: boolean): AdapterInfo {
  return {
    model,
    name,
    digest: digestOf(name),
    source,
    preload,
    pin,
    options: {},
    state: preload ? 'ready' : 'registered',
    ranks: [8],
    scalings: [2],
    targetModules: ['q_proj'],
    bytes: 1024,
    features: [],
    warnings: [],
    runningRows: 0,
    createdAt: Date.UTC(2026, 0, 1),
    updatedAt: Date.UTC(2026, 0, 1),
    revision: 1,
  };
}
