/** Engine threads whose native calls do not return: what is noticed, who is told, and how they come back. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { flattenReplaced } from '../../server/adapters/flatten.js';
import { readAdapterFolder } from '../../server/adapters/read-adapter.js';
import type { Engine, EngineRow } from '../../server/engine/engine.js';
import { EnginePool } from '../../server/engine/engine-pool.js';
import type { EndEvent } from '../../server/engine/messages.js';
import { StallWatch } from '../../server/engine/stall-watch.js';
import { StepMarks } from '../../server/engine/step-marks.js';
import { openModelFolder } from '../../server/model/model-folder.js';
import { adapterBaseOf } from '../../server/model/module-table.js';
import { stallChange, startGated } from './gated-engine.js';
import { GOLDEN } from './golden-model.js';
import { GREEDY } from './loop-run.js';

/** Short, but longer than a golden model's step on a busy machine. [ms] */
const TIMEOUT = 400;

const folder = await openModelFolder(`${GOLDEN}models/llama`);
after(() => folder.close());

async function bind(name: string) {
  const base = adapterBaseOf(folder);
  return flattenReplaced(await readAdapterFolder(`${GOLDEN}adapters/llama/${name}`, base), base);
}

/** Submits a row; resolves at its end. */
function run(engine: Engine, overrides: Partial<EngineRow> = {}, onToken = () => {}) {
  return new Promise<{ tokens: number[]; end: EndEvent }>((resolve) => {
    const tokens: number[] = [];
    const row = { promptIds: [1, 2, 3], selection: [], sampling: GREEDY, maxNewTokens: 5, endIds: [], ...overrides };
    const token = (event: { token: number }) => {
      tokens.push(event.token);
      onToken();
    };
    engine.submit([row], [{ token, end: (end) => resolve({ tokens, end }) }]);
  });
}

describe('a watch over marks', () => {
  function watched() {
    const marks = new StepMarks();
    const seen: (string | undefined)[] = [];
    const state = { now: 0, pending: true };
    const watch: StallWatch = new StallWatch({
      marks: new StepMarks(marks.memory),
      timeoutMs: 1000,
      now: () => state.now,
      pending: () => state.pending,
      changed: () => seen.push(watch.stalled),
    });
    const lookAt = (now: number) => {
      state.now = now;
      watch.look();
    };
    return { marks, seen, state, lookAt };
  }
  /** Work that ends when it is told to. */
  function open() {
    let end = () => {};
    const work = () =>
      new Promise<void>((resolve) => {
        end = resolve;
      });
    return { work, end: () => end() };
  }

  test('tells a call that lasts as long as the timeout, once, and its end', async () => {
    const { marks, seen, lookAt } = watched();
    const call = open();
    const running = marks.run(call.work);
    for (const now of [0, 500, 999]) lookAt(now);
    assert.deepEqual(seen, []);
    for (const now of [1000, 1500]) lookAt(now);
    assert.deepEqual(seen, ['a step has not returned for 1 s']);
    call.end();
    await running;
    lookAt(1600);
    assert.deepEqual(seen, ['a step has not returned for 1 s', undefined]);
  });

  test('a step of many short calls is none of them', async () => {
    const { marks, seen, lookAt } = watched();
    const step = open();
    const running = marks.run(step.work);
    for (let now = 0; now < 5000; now += 900) {
      lookAt(now);
      await marks.run(async () => {});
    }
    assert.deepEqual(seen, []);
    step.end();
    await running;
  });

  test('opening a graph beside or within a step may take as long as it takes', async () => {
    const { marks, seen, lookAt } = watched();
    const [step, opening] = [open(), open()];
    const running = [marks.run(step.work), marks.open(opening.work)];
    for (const now of [0, 1000, 5000]) lookAt(now);
    assert.deepEqual(seen, []);
    opening.end();
    await running[1];
    for (const now of [5001, 6000]) lookAt(now);
    assert.deepEqual(seen, []);
    lookAt(6001);
    assert.equal(seen.length, 1);
    step.end();
    await running[0];
  });

  test('a thread that nobody waits for, or that rests, is not stalled', async () => {
    const { marks, seen, state, lookAt } = watched();
    for (const now of [0, 5000]) lookAt(now);
    state.pending = false;
    const call = open();
    const running = marks.run(call.work);
    for (const now of [5000, 9000]) lookAt(now);
    assert.deepEqual(seen, []);
    call.end();
    await running;
  });
});

describe('an engine thread in a call that does not return', () => {
  test('its rows and loads end, others are refused, and all is well when the call returns', async (t) => {
    const { engine, gate } = await startGated(TIMEOUT);
    t.after(() => engine.close());
    const kept = await bind('all-r8');
    const selection = [{ digest: kept.digest, weight: 1 }];
    await engine.load(kept);
    const first = await run(engine, { selection });
    const endless = { maxNewTokens: 1900 };
    let held: Promise<void> | undefined;
    const running = run(engine, endless, () => {
      held ??= stallChange(engine);
      gate.shut();
    });
    const waiting = run(engine, endless);
    const { tokens, end } = await running;
    assert.ok(tokens.length > 0);
    assert.deepEqual([end.cause, end.reason], ['error', 'ENGINE_STALLED']);
    assert.match(end.message!, /does not move: a step has not returned for 0\.4 s; send the request again later/);
    assert.equal((await waiting).end.reason, 'ENGINE_STALLED');
    await held;
    assert.equal(engine.alive, true);
    assert.match(engine.stalled!, /has not returned/);
    assert.equal(engine.stats().runningRows + engine.stats().waitingRows, 0);
    assert.throws(() => engine.submit([], []), { reason: 'ENGINE_STALLED' });
    await assert.rejects(engine.load(await bind('qv-r4')), { reason: 'ENGINE_STALLED' });
    // Nobody is held up by what the thread cannot do now.
    await engine.unload('nothing');
    assert.equal(await engine.copyOf(kept.digest), undefined);

    const moving = stallChange(engine);
    gate.open();
    await moving;
    assert.equal(engine.stalled, undefined);
    assert.deepEqual((await run(engine, { selection })).tokens, first.tokens);
    const { kvBytes, runningRows, waitingRows } = engine.stats();
    assert.deepEqual([kvBytes, runningRows, waitingRows], [0, 0, 0]);
  });

  test('an adapter whose load was given up is not left behind, and can be loaded again', async (t) => {
    const { engine, gate } = await startGated(TIMEOUT);
    t.after(() => engine.close());
    const selection = [{ digest: (await bind('all-r8')).digest, weight: 1 }];
    await engine.load(await bind('all-r8'));
    const first = await run(engine, { selection });
    await engine.unload(selection[0]!.digest);
    // The thread is held before it reads the message of the load.
    gate.shut();
    const row = run(engine);
    const load = engine.load(await bind('all-r8'));
    await assert.rejects(load, { reason: 'ENGINE_STALLED' });
    assert.equal((await row).end.reason, 'ENGINE_STALLED');
    const moving = stallChange(engine);
    gate.open();
    await moving;
    // Answers come in order: behind this one the load and its unload are done.
    await engine.copyOf('nothing');
    await engine.copyOf('nothing');
    assert.equal((await run(engine, { selection })).end.cause, 'error');
    assert.equal(engine.stats().adaptersLoaded, 0);
    await engine.load(await bind('all-r8'));
    assert.deepEqual((await run(engine, { selection })).tokens, first.tokens);
  });

  test('one of several threads makes the model take no rows; those on the others go on', async (t) => {
    const [one, two] = [await startGated(TIMEOUT), await startGated(TIMEOUT)];
    const pool = new EnginePool(one.engine, { maxQueue: 20 });
    pool.add(two.engine);
    t.after(() => pool.close());
    const told: (string | undefined)[] = [];
    pool.onStall(() => told.push(pool.stalled));
    await run(pool);
    for (const [name, value] of Object.entries(pool.stats())) assert.ok(Number.isFinite(value), name);
    one.gate.shut();
    const stuck = run(one.engine);
    const beside = await run(two.engine, { maxNewTokens: 300 });
    assert.equal(beside.end.cause, 'length');
    assert.equal((await stuck).end.reason, 'ENGINE_STALLED');
    assert.match(pool.stalled!, /has not returned/);
    assert.throws(() => pool.submit([], []), { reason: 'ENGINE_STALLED' });
    const moving = stallChange(pool);
    one.gate.open();
    await moving;
    assert.equal((await run(pool)).end.cause, 'length');
    assert.equal(told.at(-1), undefined);
    assert.equal(told.length, 2);
  });
});
