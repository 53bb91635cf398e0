import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  decide,
  pickWaiting,
  positionsFor,
  type SchedulerLimits,
  type SchedulerState,
  slotsFor,
  type WaitingRow,
} from '../../server/engine/scheduler.js';

const LIMITS: SchedulerLimits = { maxBatch: 4, prefillChunk: 10, maxPositions: 10_000 };
const EMPTY: SchedulerState = { waiting: [], prefilling: undefined, running: [], lastWasPrefill: false };
const waiting = (id: number, key: string, overtaken = 0): WaitingRow => ({ id, key, totalTokens: 20, overtaken });
const started = (id: number, key: string) => ({ id, key, totalTokens: 20 });

describe('scheduler', () => {
  test('idles without rows', () => assert.deepEqual(decide(EMPTY, LIMITS), { kind: 'idle' }));

  test('lets running rows decode between two prefill chunks', () => {
    const state = { ...EMPTY, prefilling: { ...started(1, 'a'), tokensLeft: 50 }, running: [started(2, 'b')] };
    assert.deepEqual(decide(state, LIMITS), { kind: 'prefill', id: 1, tokens: 10 });
    assert.deepEqual(decide({ ...state, lastWasPrefill: true }, LIMITS), { kind: 'decode' });
  });

  test('reads a prompt without pauses while nothing decodes', () => {
    const state = { ...EMPTY, prefilling: { ...started(1, 'a'), tokensLeft: 3 }, lastWasPrefill: true };
    assert.deepEqual(decide(state, LIMITS), { kind: 'prefill', id: 1, tokens: 3 });
  });

  test('starts the selection with the fewest rows first, the earlier row among equals', () => {
    const state = {
      ...EMPTY,
      waiting: [waiting(1, 'busy'), waiting(2, 'calm'), waiting(3, 'calm')],
      running: [started(9, 'busy')],
    };
    assert.deepEqual(decide(state, LIMITS), { kind: 'start', id: 2 });
  });

  test('a row that was overtaken often enough goes first', () => {
    const state = { ...EMPTY, waiting: [waiting(1, 'busy', 32), waiting(2, 'calm')], running: [started(9, 'busy')] };
    assert.equal(pickWaiting(state, LIMITS)?.id, 1);
  });

  test('keeps the batch within its size and its memory', () => {
    const full = { ...EMPTY, waiting: [waiting(1, 'a')], running: [1, 2, 3, 4].map((id) => started(id + 10, 'b')) };
    assert.deepEqual(decide(full, LIMITS), { kind: 'decode' });
    const tight = { ...EMPTY, waiting: [waiting(1, 'a')], running: [started(2, 'b')] };
    assert.deepEqual(decide(tight, { ...LIMITS, maxPositions: positionsFor([tight.running[0]!]) }), { kind: 'decode' });
  });

  test('has a slot for every row', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1000 }), (rows) => slotsFor(rows) >= rows && slotsFor(rows) < rows + 8),
    );
  });

  test('in simulated traffic every row starts, bounds hold, and a flood of one adapter delays the others little', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.record({ key: fc.constantFrom('a', 'b', 'c'), gap: fc.nat(3), length: fc.integer({ min: 1, max: 8 }) }),
          { minLength: 1, maxLength: 60 },
        ),
        (arrivals) => {
          let now = 0;
          const queue = arrivals.map(({ key, gap, length }, id) => {
            now += gap;
            return { id, key, at: now, length, totalTokens: 20, overtaken: 0 };
          });
          let waitingRows: (typeof queue)[number][] = [];
          let running: { id: number; key: string; totalTokens: number; left: number }[] = [];
          const begun = new Set<number>();
          let lastWasPrefill = false;
          for (let step = 0; begun.size < queue.length || running.length > 0; step += 1) {
            waitingRows.push(...queue.filter(({ at }) => at === step));
            const decision = decide({ waiting: waitingRows, prefilling: undefined, running, lastWasPrefill }, LIMITS);
            lastWasPrefill = decision.kind === 'start';
            if (decision.kind === 'start') {
              const at = waitingRows.findIndex(({ id }) => id === decision.id);
              for (const row of waitingRows.slice(0, at)) row.overtaken += 1;
              const [row] = waitingRows.splice(at, 1);
              begun.add(row!.id);
              running.push({ ...row!, left: row!.length });
            } else if (decision.kind === 'decode') {
              running = running.map((row) => ({ ...row, left: row.left - 1 })).filter(({ left }) => left > 0);
            } else {
              assert.equal(waitingRows.length + running.length, 0, 'idle only without work');
            }
            assert.ok(running.length <= LIMITS.maxBatch);
            assert.ok(step < 10_000, 'every row starts');
          }
          waitingRows = [];
        },
      ),
    );
  });
});
