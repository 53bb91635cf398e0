import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { evenTraffic, zipfTraffic } from '../../bench/simulate.js';
import { type Arrival, type CostModel, simulate } from '../../bench/simulator.js';
import { chunkOf, chunkTokens } from '../../server/engine/chunk-size.js';
import { positionsOf, slotsFor } from '../../server/engine/placement.js';
import { countStart, firstOf, type WaitingRow } from '../../server/engine/queue-order.js';
import {
  decide,
  type PrefillingRow,
  type SchedulerLimits,
  type SchedulerState,
  type StartedRow,
} from '../../server/engine/scheduler.js';
import { ServiceLedger } from '../../server/engine/service-ledger.js';
import { StepCosts } from '../../server/engine/step-costs.js';

const LIMITS: SchedulerLimits = { maxBatch: 4, prefillChunk: 10, maxPositions: 10_000 };
const SERVICE = { had: () => 0, perRow: 1 };
const EMPTY: SchedulerState = {
  waiting: [],
  prefilling: [],
  groups: [],
  readSinceDecode: 0,
  costs: {},
  service: SERVICE,
};
const waiting = (id: number, key: string, more: Partial<WaitingRow> = {}): WaitingRow => ({
  id,
  key,
  priority: 0,
  deadline: Number.POSITIVE_INFINITY,
  arrival: id,
  tokens: 20,
  overtaken: 0,
  preemptions: 0,
  joinable: false,
  ...more,
});
const running = (id: number, key: string, more: Partial<StartedRow> = {}): StartedRow => ({
  id,
  key,
  priority: 0,
  arrival: id,
  preemptions: 0,
  length: 20,
  ...more,
});
const prefilling = (id: number, tokensLeft: number, more: Partial<PrefillingRow> = {}): PrefillingRow => ({
  id,
  key: 'a',
  priority: 0,
  arrival: id,
  overtaken: 0,
  tokens: tokensLeft,
  tokensLeft,
  fixed: false,
  ...more,
});

describe('scheduler', () => {
  test('idles without rows', () => assert.deepEqual(decide(EMPTY, LIMITS), { kind: 'idle' }));

  test('lets running rows decode between two prefill chunks', () => {
    const state = { ...EMPTY, prefilling: [prefilling(1, 50)], groups: [[running(2, 'b')]] };
    assert.deepEqual(decide(state, LIMITS), { kind: 'prefill', id: 1, tokens: 10 });
    assert.deepEqual(decide({ ...state, readSinceDecode: 10 }, LIMITS), { kind: 'decode' });
  });

  test('reads a prompt without pauses while nothing decodes', () => {
    const state = { ...EMPTY, prefilling: [prefilling(1, 3)], readSinceDecode: 10 };
    assert.deepEqual(decide(state, LIMITS), { kind: 'prefill', id: 1, tokens: 3 });
  });

  test('starts the selection with the fewest rows first, the earlier row among equals', () => {
    const state = {
      ...EMPTY,
      waiting: [waiting(1, 'busy'), waiting(2, 'calm'), waiting(3, 'calm')],
      groups: [[running(9, 'busy')]],
    };
    assert.deepEqual(decide(state, LIMITS), { kind: 'start', ids: [2], tokens: 10 });
  });

  test('a selection that had much of the engine lately waits for one that had little', () => {
    const service = { had: (key: string) => (key === 'busy' ? 500 : 3), perRow: 10 };
    const first = firstOf([waiting(1, 'busy'), waiting(2, 'calm')], { rows: new Map([['calm', 2]]), service });
    assert.equal(first?.id, 2);
  });

  test('a higher priority goes first, then the earlier deadline of a selection', () => {
    const rows = [
      waiting(1, 'a'),
      waiting(2, 'a', { deadline: 900 }),
      waiting(3, 'a', { deadline: 500 }),
      waiting(4, 'b', { priority: 1 }),
    ];
    const shares = { rows: new Map([['b', 3]]), service: SERVICE };
    assert.equal(firstOf(rows, shares)?.id, 4);
    assert.equal(firstOf(rows.slice(0, 3), { rows: new Map(), service: SERVICE })?.id, 3);
  });

  test('a row that was overtaken often while its selection had no turn goes first', () => {
    const rows = [waiting(1, 'low', { priority: -1 }), waiting(2, 'low', { priority: -1 })];
    for (let id = 3; id < 40; id += 1) countStart(waiting(id, 'high'), rows);
    const shares = { rows: new Map(), service: SERVICE };
    assert.equal(firstOf([...rows, waiting(50, 'high')], shares)?.id, 1);
    countStart(rows[0]!, rows.slice(1));
    assert.equal(firstOf([rows[1]!, waiting(50, 'high')], shares)?.id, 50, 'its selection had a turn');
  });

  test('a short prompt passes a long one that is being read, until that was passed often', () => {
    const long = prefilling(1, 1000);
    const state = { ...EMPTY, waiting: [waiting(2, 'a', { tokens: 100 })], prefilling: [long] };
    assert.equal(decide(state, LIMITS).kind, 'start');
    assert.equal(decide({ ...state, waiting: [waiting(2, 'a', { tokens: 900 })] }, LIMITS).kind, 'prefill');
    assert.equal(decide({ ...state, prefilling: [{ ...long, overtaken: 32 }] }, LIMITS).kind, 'prefill');
  });

  test('short prompts of one selection are read in one step, as far as the chunk and the batch go', () => {
    const short = (id: number, key = 'a') => waiting(id, key, { tokens: 3, joinable: true });
    const state = { ...EMPTY, waiting: [short(1), short(2, 'b'), short(3), waiting(4, 'a'), short(5), short(6)] };
    const limits = { ...LIMITS, maxJoined: 8 };
    assert.deepEqual(decide(state, limits), { kind: 'start', ids: [1, 3, 5], tokens: 10 });
    assert.deepEqual(decide(state, { ...limits, maxBatch: 2 }), { kind: 'start', ids: [1, 3], tokens: 10 });
    assert.deepEqual(decide(state, LIMITS), { kind: 'start', ids: [1], tokens: 3 });
  });

  test('keeps the batch within its size and its memory', () => {
    const full = { ...EMPTY, waiting: [waiting(1, 'a')], groups: [[1, 2, 3, 4].map((id) => running(id + 10, 'a'))] };
    assert.deepEqual(decide(full, LIMITS), { kind: 'decode' });
    const tight = { ...EMPTY, waiting: [waiting(1, 'a')], groups: [[running(2, 'a')]] };
    assert.deepEqual(decide(tight, { ...LIMITS, maxPositions: 100 }), { kind: 'decode' });
    assert.equal(decide(tight, { ...LIMITS, maxPositions: 160 }).kind, 'start');
  });

  test('takes the memory of the newest row of the lowest priority when the next tokens do not fit', () => {
    const rows = [running(1, 'a'), running(2, 'a'), running(3, 'a', { priority: 1 })].map((row) => ({
      ...row,
      length: 32,
    }));
    const state = { ...EMPTY, groups: [rows] };
    assert.deepEqual(decide(state, { ...LIMITS, maxPositions: 180 }), { kind: 'preempt', id: 2 });
    assert.deepEqual(decide(state, { ...LIMITS, maxPositions: 192 }), { kind: 'decode' });
    const alone = { ...EMPTY, groups: [rows.slice(0, 1)] };
    assert.deepEqual(decide(alone, { ...LIMITS, maxPositions: 64 }), { kind: 'decode' });
  });

  test('a full batch makes way for a higher priority, and for a selection that has nothing', () => {
    const batch = [1, 2, 3, 4].map((id) => running(id, 'busy'));
    const decideFor = (row: WaitingRow) => decide({ ...EMPTY, waiting: [row], groups: [batch] }, LIMITS);
    assert.deepEqual(decideFor(waiting(9, 'busy', { priority: 1 })), { kind: 'preempt', id: 4 });
    assert.deepEqual(decideFor(waiting(9, 'calm')), { kind: 'preempt', id: 4 });
    assert.deepEqual(decideFor(waiting(9, 'busy')), { kind: 'decode' });
    const twice = batch.map((row) => ({ ...row, preemptions: 2 }));
    assert.equal(decide({ ...EMPTY, waiting: [waiting(9, 'calm')], groups: [twice] }, LIMITS).kind, 'decode');
  });

  test('has a slot for every row', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1000 }), (rows) => slotsFor(rows) >= rows && slotsFor(rows) < rows + 8),
    );
  });
});

describe('a selection that is behind', () => {
  const service = { had: (key: string) => (key === 'busy' ? 5000 : 0), perRow: 400 };
  const state = {
    ...EMPTY,
    waiting: [waiting(9, 'calm')],
    groups: [[1, 2, 3].map((id) => running(id, 'busy'))],
    costs: { decodeMs: 20, prefillMsPerToken: 2 },
    service,
    readSinceDecode: 64,
  };

  test('starts a row before the decode step that is due, unless much was read since the last one', () => {
    assert.equal(decide(state, LIMITS).kind, 'start');
    assert.equal(decide({ ...state, readSinceDecode: 193 }, LIMITS).kind, 'decode');
    assert.equal(decide({ ...state, waiting: [waiting(9, 'busy')] }, LIMITS).kind, 'decode');
    const urgent = [...state.groups[0]!, running(4, 'urgent', { priority: 1 })];
    assert.equal(decide({ ...state, groups: [urgent] }, { ...LIMITS, maxBatch: 8 }).kind, 'decode');
    const even = { ...service, had: () => 0 };
    assert.equal(decide({ ...state, groups: [[running(1, 'busy')]], service: even }, LIMITS).kind, 'decode');
  });

  test('does not go on with a started row before it', () => {
    const { waiting: rows, ...rest } = state;
    const [row] = rows;
    const started = { ...row!, tokensLeft: row!.tokens - 1, fixed: false };
    assert.equal(decide({ ...rest, waiting: [], prefilling: [started] }, LIMITS).kind, 'decode');
  });
});

describe('prefill chunks', () => {
  const costs = { decodeMs: 20, prefillMsPerToken: 0.5 };

  test('are as large as allowed while nothing decodes or nothing was measured', () => {
    assert.equal(chunkTokens({ costs, running: 0, hungry: 1, read: 300, limit: 256 }), 256);
    assert.equal(chunkTokens({ costs: {}, running: 5, hungry: 1, read: 0, limit: 256 }), 256);
  });

  test('take one and a half decode steps, more where more rows wait than run', () => {
    assert.equal(chunkTokens({ costs, running: 8, hungry: 4, read: 0, limit: 256 }), 56);
    assert.equal(chunkTokens({ costs, running: 2, hungry: 6, read: 0, limit: 256 }), 176);
    assert.equal(chunkTokens({ costs, running: 1, hungry: 15, read: 0, limit: 256 }), 256);
    assert.equal(chunkTokens({ costs: { ...costs, decodeMs: 1 }, running: 8, hungry: 1, read: 0, limit: 256 }), 16);
  });

  test('follow one another before the next decode step while the burst is worth it, and no scrap is read', () => {
    const burst = { costs, running: 2, hungry: 14, limit: 256 };
    assert.equal(chunkTokens({ ...burst, read: 160 }), 256);
    assert.equal(chunkTokens({ ...burst, read: 336 }), 80);
    assert.equal(chunkTokens({ ...burst, read: 360 }), 0);
    assert.equal(chunkTokens({ ...burst, hungry: 2, read: 8 }), 0);
    assert.equal(chunkTokens({ costs: {}, running: 2, hungry: 6, limit: 256, read: 8 }), 0);
  });

  test('share out evenly what a prompt has left, so that no scrap is read at its end', () => {
    const calm = { running: 8, hungry: 1, limit: 256 };
    const chunks = (tokens: number, allowed: number, pressure = calm) => {
      const sizes: number[] = [];
      for (let left = tokens; left > 0; left -= sizes.at(-1)!) {
        sizes.push(chunkOf({ tokens, tokensLeft: left }, allowed, pressure));
      }
      return sizes;
    };
    assert.deepEqual(chunks(115, 56), [64, 51]);
    assert.deepEqual(chunks(70, 56), [70]);
    assert.deepEqual(chunks(115, 16), [32, 32, 32, 19], 'a short prompt is not read in crumbs');
    assert.deepEqual(chunks(115, 16, { ...calm, running: 3, hungry: 3 }), [115], 'at once where many wait');
    assert.deepEqual(chunks(115, 16, { running: 1, hungry: 9, limit: 64 }), [64, 51]);
    assert.deepEqual(new Set(chunks(1440, 40)), new Set([40]), 'a long prompt keeps to what is allowed');
    assert.deepEqual(chunks(1000, 512), [256, 256, 256, 232]);
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 3000 }),
        fc.integer({ min: 1, max: 64 }).map((n) => 8 * n),
        fc.record({ running: fc.nat(16), hungry: fc.nat(16), limit: fc.integer({ min: 1, max: 512 }) }),
        (tokens, allowed, pressure) => {
          const sizes = chunks(tokens, allowed, pressure);
          const most = tokens <= 128 ? 128 : Math.max(32, allowed) * (tokens <= 256 ? 1.4 : 1) + 8;
          for (const size of sizes) assert.ok(size >= 1 && size <= pressure.limit && size <= most, `${sizes}`);
        },
      ),
    );
  });

  test('settle at their share of the time whatever a chunk costs beside its tokens', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0.1, max: 10, noNaN: true }),
        fc.double({ min: 0, max: 15, noNaN: true }),
        (perToken, fixed) => {
          const measured = new StepCosts();
          measured.decoded(100 * perToken);
          measured.prefilled(256, fixed * perToken + 256 * perToken);
          let tokens = 0;
          for (let step = 0; step < 60; step += 1) {
            tokens = chunkTokens({ costs: measured, running: 1, hungry: 1, read: 0, limit: 256 });
            measured.prefilled(tokens, fixed * perToken + tokens * perToken);
          }
          const share = (fixed + tokens) / 100;
          assert.ok(share > 1.3 && share <= 1.6, `${share} decode steps`);
        },
      ),
    );
  });
});

describe('service', () => {
  test('fades by half in thirty seconds of steps and is forgotten in the end', () => {
    const ledger = new ServiceLedger();
    ledger.charge(['a'], 1000);
    for (let step = 0; step < 30; step += 1) ledger.charge(['b'], 1000);
    const had = ledger.had('a');
    assert.ok(had > 480 && had < 520, `${had}`);
    for (let step = 0; step < 2000; step += 1) ledger.charge(['b'], 1000);
    assert.equal(ledger.had('a'), 0);
    assert.ok(ledger.had('b') > 40_000 && ledger.had('b') < 45_000, `${ledger.had('b')}`);
  });
});

describe('simulated traffic', () => {
  const model: CostModel = {
    prefill: (tokens, past) => 6 + tokens * (0.6 + past * 0.0003),
    decode: (lengths) => 6 + lengths.length * (2 + Math.max(...lengths) * 0.004),
  };
  const arrival = fc.record({
    atMs: fc.integer({ min: 0, max: 5000 }),
    key: fc.constantFrom('a', 'b', 'c'),
    promptTokens: fc.integer({ min: 1, max: 400 }),
    newTokens: fc.integer({ min: 1, max: 100 }),
    priority: fc.integer({ min: 0, max: 2 }),
  });

  const crowd = (promptTokens: number, newTokens: number): Arrival & { priority: number } => ({
    ...{ atMs: 0, key: 'a', priority: 0 },
    ...{ promptTokens, newTokens },
  });

  test('every row ends with all its tokens and the bounds hold, however little memory there is', () => {
    fc.assert(
      fc.property(
        fc.array(arrival, { minLength: 1, maxLength: 60 }),
        fc.integer({ min: 512, max: 3000 }),
        fc.integer({ min: 1, max: 10 }),
        fc.constantFrom(100, 1000, undefined),
        (arrivals: Arrival[], maxPositions, maxBatch, stepPositions) => {
          const limits = { maxBatch, prefillChunk: 128, maxPositions, stepPositions };
          const { outcomes, mostPositions, mostRows } = simulate(arrivals, limits, model);
          assert.equal(outcomes.length, arrivals.length);
          assert.ok(outcomes.every(({ endMs, firstTokenMs }) => endMs >= firstTokenMs && firstTokenMs > 0));
          assert.ok(mostPositions <= maxPositions, `${mostPositions} positions of ${maxPositions}`);
          assert.ok(mostRows <= maxBatch);
        },
      ),
      // The first row grows into a further block while the budget is full: the second one has to go before the next step.
      { examples: [[[crowd(168, 90), crowd(1, 89), crowd(1, 1)], 512, 2, 1000]] },
    );
  });

  const limits: SchedulerLimits = { maxBatch: 16, prefillChunk: 256, maxPositions: 11_000, stepPositions: 2000 };
  const median = (values: number[]) => values.sort((x, y) => x - y)[values.length >> 1]!;

  test('an adapter that sends ten times as much slows the others down by at most a fifth', () => {
    const othersWait = (times: number) =>
      median(
        [1, 2, 3].flatMap((seed) =>
          simulate(evenTraffic('poisson', 8, 0.2, 200_000, times, seed), limits, model)
            .outcomes.filter(({ key }) => key !== '0')
            .map(({ firstTokenMs }) => firstTokenMs),
        ),
      );
    const slowed = othersWait(10) / othersWait(1);
    assert.ok(slowed < 1.2, `${slowed}`);
  });

  test('under more work than the machine can do, no adapter of many starves', () => {
    const { outcomes } = simulate(zipfTraffic(50, 6, 60_000, 7), limits, model);
    const totalMs = Math.max(...outcomes.map(({ atMs, endMs }) => atMs + endMs));
    for (const key of new Set(outcomes.map((row) => row.key))) {
      const waits = outcomes.filter((row) => row.key === key).map(({ firstTokenMs }) => firstTokenMs);
      assert.ok(median(waits) < totalMs / 2, `adapter ${key} waits ${median(waits)} of ${totalMs} ms`);
    }
  });

  test('low priorities get their turn while high ones never cease', () => {
    const stream = (key: string, priority: number, everyMs: number): Arrival[] =>
      Array.from({ length: 300 }, (_, i) => ({ atMs: i * everyMs, key, promptTokens: 100, newTokens: 40, priority }));
    const { outcomes } = simulate([...stream('high', 1, 150), ...stream('low', 0, 900).slice(0, 20)], limits, model);
    const lastHigh = Math.max(...outcomes.filter(({ key }) => key === 'high').map(({ atMs, endMs }) => atMs + endMs));
    const low = outcomes.filter(({ key }) => key === 'low').map(({ atMs, endMs }) => atMs + endMs);
    const early = low.filter((end) => end < lastHigh).length;
    assert.ok(early >= 5, `${early} of ${low.length} low ones end before the high ones do`);
  });

  test('streams keep their pace while long prompts are read', () => {
    const streams = Array.from({ length: 8 }, (_, i) => ({ atMs: 0, key: `s${i}`, promptTokens: 100, newTokens: 600 }));
    const prompts = Array.from({ length: 4 }, (_, i) => ({
      atMs: 4000,
      key: `p${i}`,
      promptTokens: 1500,
      newTokens: 1,
    }));
    const quiet = simulate(streams, { ...limits, stepPositions: undefined }, model).outcomes;
    const disturbed = simulate([...streams, ...prompts], limits, model).outcomes.slice(0, 8);
    const quietGap = model.decode(Array.from({ length: 8 }, () => 400));
    assert.equal(quiet.length, 8);
    assert.ok(Math.max(...disturbed.map(({ longestGapMs }) => longestGapMs)) < 3 * quietGap + 256);
  });

  test('positions of a group are those of its longest row, in blocks', () => {
    assert.equal(positionsOf([]), 0);
    assert.equal(positionsOf([3, 31]), 64);
    assert.equal(positionsOf([3, 32]), 128);
  });
});
