/** Several engine threads as one: rows get what one thread would give them, wherever they run. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { GREEDY } from '../../bench/greedy.js';
import { flattenReplaced } from '../../server/adapters/flatten.js';
import { readAdapterFolder } from '../../server/adapters/read-adapter.js';
import type { BoundAdapter } from '../../server/adapters/types.js';
import type { EngineRow } from '../../server/engine/engine.js';
import { EnginePool } from '../../server/engine/engine-pool.js';
import type { EndEvent } from '../../server/engine/messages.js';
import { startEngine } from '../../server/engine/start-engines.js';
import type { WorkerEngine } from '../../server/engine/worker-engine.js';
import { AppError } from '../../server/errors.js';
import { openModelFolder } from '../../server/model/model-folder.js';
import { adapterBaseOf } from '../../server/model/module-table.js';
import { GOLDEN } from './golden-model.js';

const ADAPTERS = ['adapters/llama/all-r8', 'adapters/llama/dora', 'adapters/llama/rslora'];
const modelDir = `${GOLDEN}models/llama`;
const limits = { maxBatch: 8, prefillChunk: 16, kvBytes: 64 << 20 };

const row = (overrides: Partial<EngineRow> = {}): EngineRow => ({
  promptIds: [1, 2, 3],
  selection: [],
  sampling: GREEDY,
  maxNewTokens: 6,
  endIds: [],
  ...overrides,
});

describe('a pool of engine threads', async () => {
  const folder = await openModelFolder(modelDir);
  const base = adapterBaseOf(folder);
  const adapters = await Promise.all(
    ADAPTERS.map(async (path) => flattenReplaced(await readAdapterFolder(GOLDEN + path, base), base)),
  );
  const read = (adapter: BoundAdapter) => structuredClone(adapter);
  const [working, count] = [new SharedArrayBuffer(8), 2];
  const start = (index: number): Promise<WorkerEngine> =>
    startEngine(
      { modelDir, dtype: 'fp32', threads: count, lora: true, limits, team: { threads: 1, working, index } },
      { maxQueue: 100 },
    );
  const alone = await startEngine({ modelDir, dtype: 'fp32', threads: 1, lora: true, limits }, { maxQueue: 100 });
  const members = [await start(0), await start(1)];
  const pool = new EnginePool(members[0]!, { maxQueue: 12 });
  after(async () => {
    await Promise.all([pool.close(), alone.close(), folder.close()]);
  });

  const submit = (engine: Pick<WorkerEngine, 'submit'>, rows: readonly EngineRow[]) => {
    const results = rows.map(() => {
      const tokens: number[] = [];
      let resolve: (result: { tokens: number[]; end: EndEvent }) => void = () => {};
      const done = new Promise<{ tokens: number[]; end: EndEvent }>((settle) => {
        resolve = settle;
      });
      return {
        done,
        listener: {
          token: ({ token }: { token: number }) => void tokens.push(token),
          end: (end: EndEvent) => resolve({ tokens, end }),
        },
      };
    });
    const handles = engine.submit(
      rows,
      results.map(({ listener }) => listener),
    );
    return { handles, done: Promise.all(results.map(({ done }) => done)) };
  };
  const tokensOf = async (engine: Pick<WorkerEngine, 'submit'>, rows: readonly EngineRow[]) =>
    (await submit(engine, rows).done).map(({ tokens, end }) => [end.cause, ...tokens]);
  const selecting = (...digests: readonly string[]) => digests.map((digest) => ({ digest, weight: 1 }));
  const prompts = Array.from({ length: 10 }, (_, i) => [i + 1, 7, 3 * i, 40 - i, 5]);
  const digests = adapters.map(({ digest }) => digest);
  const mixed = prompts.map((promptIds, i) =>
    row({ promptIds, selection: i % 4 === 3 ? [] : selecting(digests[i % 4]!) }),
  );
  for (const adapter of adapters) await alone.load(read(adapter));
  const expected = await tokensOf(alone, mixed);

  test('of one thread is that thread', async () => {
    await pool.load(read(adapters[0]!));
    const rows = [row(), row({ selection: selecting(digests[0]!) })];
    assert.deepEqual(await tokensOf(pool, rows), await tokensOf(alone, rows));
  });

  test('that another thread joins gives rows the tokens that one thread gives them', async () => {
    pool.add(members[1]!);
    for (const adapter of adapters.slice(1)) await pool.load(read(adapter));
    for (let round = 0; round < 3; round += 1) assert.deepEqual(await tokensOf(pool, mixed), expected);
    assert.ok(members.every((member) => member.stats().decodeTokens > 0));
    assert.equal(pool.stats().adaptersLoaded, 3);
  });

  test('copies an adapter to the other thread when its rows are more than one thread has to bear', async () => {
    const rows = prompts.map((promptIds) => row({ promptIds, maxNewTokens: 30, selection: selecting(digests[0]!) }));
    const wanted = await tokensOf(alone, rows);
    for (let round = 0; round < 4; round += 1) assert.deepEqual(await tokensOf(pool, rows), wanted);
    assert.ok(pool.stats().adapterBytes > alone.stats().adapterBytes, 'a second copy counts');
  });

  test('brings the adapters of a mixture together wherever they were loaded', async () => {
    const rows = [row({ selection: selecting(digests[0]!, digests[2]!) }), row({ selection: [] })];
    assert.deepEqual(await tokensOf(pool, rows), await tokensOf(alone, rows));
  });

  test('forgets an adapter everywhere, and a row that names it ends with an error, not with the base', async () => {
    const [digest] = digests;
    await pool.unload(digest!);
    assert.equal(pool.stats().adaptersLoaded, 2);
    const [{ tokens, end }] = (await submit(pool, [row({ selection: selecting(digest!) })]).done) as [
      { tokens: number[]; end: EndEvent },
    ];
    assert.deepEqual([end.cause, tokens], ['error', []]);
    assert.match(end.message!, /not loaded/);
    await pool.load(read(adapters[0]!));
    assert.deepEqual(await tokensOf(pool, mixed), expected);
  });

  test('cancels rows on whichever thread they run', async () => {
    const rows = prompts.slice(0, 6).map((promptIds) => row({ promptIds, maxNewTokens: 1500 }));
    const { handles, done } = submit(pool, rows);
    for (const handle of handles) handle.cancel();
    assert.deepEqual(
      (await done).map(({ end }) => end.cause),
      rows.map(() => 'cancelled'),
    );
    assert.deepEqual(await tokensOf(pool, mixed), expected);
  });

  test('counts rows of all threads against one limit', async () => {
    const fill = submit(pool, mixed);
    assert.throws(
      () => submit(pool, mixed),
      (error) => error instanceof AppError && error.reason === 'QUEUE_FULL' && /10 rows/.test(error.message),
    );
    await fill.done;
    assert.equal(pool.stats().runningRows + pool.stats().waitingRows, 0);
  });

  test('that is closed lets each of its threads end its step', async () => {
    const threads = [await start(0), await start(1)];
    const closing = new EnginePool(threads[0]!, { maxQueue: 12 });
    closing.add(threads[1]!);
    const { done } = submit(
      closing,
      Array.from({ length: 10 }, () => row({ maxNewTokens: 200 })),
    );
    await closing.close();
    for (const { end } of await done) assert.equal(end.cause, 'cancelled');
    assert.deepEqual(
      threads.map(({ failure }) => failure),
      Array.from({ length: 2 }, () => 'the engine thread ended with code 0'),
    );
  });

  test('ends as a whole when one of its threads does', async () => {
    const { done } = submit(
      pool,
      prompts.slice(0, 4).map((promptIds) => row({ promptIds, maxNewTokens: 1500 })),
    );
    members[1]!.abandon('a fault of this test');
    assert.deepEqual(
      (await done).map(({ end }) => end.cause),
      ['error', 'error', 'error', 'error'],
    );
    await pool.stopped;
    assert.equal(pool.alive, false);
    assert.throws(() => submit(pool, [row()]), /has stopped/);
  });
});
