/** The engine behind its thread: results, cancel, loading, and what happens when something is wrong. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { GREEDY } from '../../bench/greedy.js';
import { flattenReplaced } from '../../server/adapters/flatten.js';
import { readAdapterFolder } from '../../server/adapters/read-adapter.js';
import type { EngineRow } from '../../server/engine/engine.js';
import type { EndEvent } from '../../server/engine/messages.js';
import { startEngine } from '../../server/engine/start-engines.js';
import { AppError } from '../../server/errors.js';
import { openModelFolder } from '../../server/model/model-folder.js';
import { adapterBaseOf } from '../../server/model/module-table.js';
import { threadsEnded } from '../../server/threads.js';

import { GOLDEN } from './golden-model.js';

const row = (overrides: Partial<EngineRow> = {}): EngineRow => ({
  promptIds: [1, 2, 3],
  selection: [],
  sampling: GREEDY,
  maxNewTokens: 5,
  endIds: [],
  ...overrides,
});

/** Bytes of a position's keys and values: 2 layers, 2 heads of 12, float32. */
const POSITION = 2 * 2 * 2 * 12 * 4;

describe('engine worker', async () => {
  const modelDir = `${GOLDEN}models/llama`;
  const engine = await startEngine(
    {
      modelDir,
      dtype: 'fp32',
      threads: 1,
      lora: true,
      limits: { maxBatch: 4, prefillChunk: 16, kvBytes: 4000 * POSITION },
    },
    { maxQueue: 20 },
  );
  const folder = await openModelFolder(modelDir);
  after(async () => {
    await engine.close();
    await folder.close();
  });
  const base = adapterBaseOf(folder);

  /** Submits a row; resolves at its end, with what it got until then. */
  const run = (asked: EngineRow, onToken?: (count: number, cancel: () => void) => void) =>
    new Promise<{ tokens: number[]; end: EndEvent }>((resolve) => {
      const tokens: number[] = [];
      const [handle] = engine.submit(
        [asked],
        [
          {
            token: ({ token }) => {
              tokens.push(token);
              onToken?.(tokens.length, () => handle!.cancel());
            },
            end: (end) => resolve({ tokens, end }),
          },
        ],
      );
    });

  test('a row ends by length with as many tokens, and with its times', async () => {
    const { tokens, end } = await run(row());
    assert.equal(tokens.length, 5);
    assert.equal(end.cause, 'length');
    assert.ok(end.queueMs >= 0 && end.prefillMs > 0 && end.decodeMs > 0);
  });

  test('a row ends by an end id, which is its last token', async () => {
    const first = await run(row());
    const { tokens, end } = await run(row({ endIds: [first.tokens[2]!] }));
    assert.equal(end.cause, 'end-id');
    assert.deepEqual(tokens, first.tokens.slice(0, first.tokens.indexOf(first.tokens[2]!) + 1));
  });

  test('a cancelled row ends soon and leaves the engine empty', async () => {
    const { tokens, end } = await run(row({ maxNewTokens: 1900 }), (count, cancel) => count === 3 && cancel());
    assert.equal(end.cause, 'cancelled');
    assert.ok(tokens.length < 30, `${tokens.length} tokens`);
    assert.equal(engine.stats().runningRows, 0);
    assert.equal(engine.stats().kvBytes, 0);
  });

  test('loads and unloads adapters while a row runs, which keeps its weights', async () => {
    const bound = await flattenReplaced(await readAdapterFolder(`${GOLDEN}adapters/llama/all-r8`, base), base);
    const { digest } = bound;
    await engine.load(bound);
    const selection = [{ digest, weight: 1 }];
    const alone = await run(row({ selection, maxNewTokens: 200 }));
    const running = run(row({ selection, maxNewTokens: 200 }));
    assert.equal(engine.stats().adaptersLoaded, 1);
    await engine.unload(digest);
    assert.deepEqual((await running).tokens, alone.tokens);
    assert.equal(engine.stats().adaptersLoaded, 0);
    const refused = await run(row({ selection }));
    assert.equal(refused.end.cause, 'error');
    assert.deepEqual(refused.tokens, []);
  });

  test('refuses rows beyond the queue or the cache budget, and enqueues none of them', () => {
    const listeners = Array.from({ length: 21 }, () => ({ token: () => {}, end: () => {} }));
    const reasonOf = (act: () => unknown) => {
      try {
        act();
      } catch (error) {
        return (error as AppError).reason;
      }
      return undefined;
    };
    assert.equal(
      reasonOf(() =>
        engine.submit(
          listeners.map(() => row()),
          listeners,
        ),
      ),
      'INVALID_REQUEST',
    );
    assert.equal(
      reasonOf(() => engine.submit([row({ maxNewTokens: 5000 })], listeners.slice(0, 1))),
      'KV_EXHAUSTED',
    );
    assert.equal(engine.stats().waitingRows + engine.stats().runningRows, 0);
  });

  test('tells when it has stopped', async () => {
    const { close, stopped, alive } = engine;
    assert.equal(alive, true);
    await close.call(engine);
    await stopped;
    assert.equal(engine.alive, false);
  });

  test('a budget of keys and values that holds no input is told before anybody asks', async () => {
    const limits = { maxBatch: 1, prefillChunk: 1, kvBytes: POSITION };
    await assert.rejects(
      startEngine(
        { modelDir: `${GOLDEN}models/llama`, dtype: 'fp32', threads: 1, lora: true, limits },
        { maxQueue: 1 },
      ),
      { reason: 'MODEL_INVALID', message: /^--kv-bytes is too small for any input: a token takes \d+ bytes/ },
    );
  });

  test('a model that cannot be opened is reported, not thrown in the thread', async () => {
    await assert.rejects(
      startEngine(
        {
          modelDir: `${GOLDEN}adapters`,
          dtype: 'fp32',
          threads: 1,
          lora: true,
          limits: { maxBatch: 1, prefillChunk: 1, kvBytes: 100 * POSITION },
        },
        { maxQueue: 1 },
      ),
      (error) => error instanceof AppError && error.reason === 'MODEL_INVALID' && error.message.includes('config.json'),
    );
  });
});

test('engines that are given up in the middle of steps, or of opening sessions, do not abort the process', async () => {
  const options = {
    ...{ modelDir: `${GOLDEN}models/llama`, dtype: 'fp32' as const, threads: 1, lora: true },
    limits: { maxBatch: 4, prefillChunk: 16, kvBytes: 4000 * POSITION },
  };
  for (let round = 0; round < 5; round += 1) {
    const engine = await startEngine(options, { maxQueue: 20 });
    const ends: EndEvent[] = [];
    let tokens = 0;
    const token = () => {
      tokens += 1;
      if (tokens === 8 * (round + 1)) engine.stop();
    };
    const listeners = Array.from({ length: 4 }, () => ({ token, end: (end: EndEvent) => void ends.push(end) }));
    engine.submit(
      listeners.map(() => row({ maxNewTokens: 240 })),
      listeners,
    );
    await engine.stopped;
    assert.deepEqual(
      ends.map(({ cause }) => cause),
      listeners.map(() => 'cancelled'),
    );
  }
  for (let ms = 60; ms < 240; ms += 40) {
    const ends = AbortSignal.timeout(ms);
    await startEngine(options, { maxQueue: 20 }, ends).then(
      (engine) => engine.close(),
      (error: Error) => assert.equal(error.name, 'TimeoutError'),
    );
  }
  await threadsEnded();
});
