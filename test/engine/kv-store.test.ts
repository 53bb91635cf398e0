import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { KvStore } from '../../server/engine/kv-store.js';

/** Values that tell layer, time, slot and side. */
const mark = (slot: number, time: number, width: number, side: number) =>
  Float32Array.from({ length: width }, (_, i) => side * 1000 + slot * 100 + time * 10 + i);

test('what is scattered by slot is found at its time and slot, also after growing', () => {
  const store = new KvStore(2, 3, 2, 4);
  for (let time = 0; time < 9; time += 1) {
    store.reserve(time + 1);
    for (let layer = 0; layer < 2; layer += 1) {
      const keys = Float32Array.from([...mark(0, time, 3, 1), ...mark(1, time, 3, 1)]);
      const values = Float32Array.from([...mark(0, time, 3, 2), ...mark(1, time, 3, 2)]);
      store.scatter(layer, Int32Array.of(time, time < 4 ? time : -1), keys, values);
    }
  }
  assert.ok(store.capacity >= 9);
  assert.deepEqual([...store.keys[1]!.subarray((8 * 2 + 0) * 3, (8 * 2 + 1) * 3)], [...mark(0, 8, 3, 1)]);
  assert.deepEqual([...store.values[0]!.subarray((3 * 2 + 1) * 3, (3 * 2 + 2) * 3)], [...mark(1, 3, 3, 2)]);
  assert.deepEqual(
    [...store.values[0]!.subarray((5 * 2 + 1) * 3, (5 * 2 + 2) * 3)],
    [0, 0, 0],
    'a skipped slot stays as it was',
  );
});

test('a row moves to another store with all its positions', () => {
  const from = new KvStore(1, 2, 1, 4);
  from.append(0, 0, Float32Array.of(1, 2, 3, 4), Float32Array.of(5, 6, 7, 8));
  const to = new KvStore(1, 2, 3, 4);
  from.copyStretch({ slot: 0, from: 0, count: 2 }, to, 2, 0);
  assert.deepEqual([...to.keys[0]!.subarray((0 * 3 + 2) * 2, (0 * 3 + 3) * 2)], [1, 2]);
  assert.deepEqual([...to.values[0]!.subarray((1 * 3 + 2) * 2, (1 * 3 + 3) * 2)], [7, 8]);
});

test('a stretch moves to another place of another row', () => {
  const from = new KvStore(1, 1, 2, 4);
  for (let time = 0; time < 4; time += 1) {
    from.scatter(0, Int32Array.of(time, time), Float32Array.of(time, 10 + time), Float32Array.of(time, 20 + time));
  }
  const to = new KvStore(1, 1, 1, 2);
  from.copyStretch({ slot: 1, from: 2, count: 2 }, to, 0, 0);
  assert.deepEqual([...to.keys[0]!], [12, 13]);
  assert.deepEqual([...to.values[0]!], [22, 23]);
  to.copyStretch({ slot: 0, from: 1, count: 1 }, from, 0, 3);
  assert.deepEqual([...from.keys[0]!], [0, 10, 1, 11, 2, 12, 13, 13]);
});

test('another shape keeps the rows that are named, wherever they go', () => {
  const store = new KvStore(2, 1, 3, 2);
  for (let layer = 0; layer < 2; layer += 1) {
    for (let time = 0; time < 2; time += 1) {
      const row = Float32Array.of(time, 10 + time, 20 + time);
      store.scatter(layer, Int32Array.of(time, time, time), row, row);
    }
  }
  store.reshape(2, 3, [2, undefined], 2);
  assert.equal(store.bytes, 2 * 2 * 2 * 3 * 4);
  assert.deepEqual([...store.keys[1]!], [20, 0, 21, 0, 0, 0]);
  store.reshape(3, 3, [undefined, 0, undefined], 2);
  assert.deepEqual([...store.values[0]!], [0, 20, 0, 0, 21, 0, 0, 0, 0]);
});

test('another shape has of each slot what its source had, whichever slots move together', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 6 }),
      fc.integer({ min: 1, max: 3 }),
      fc.array(fc.option(fc.nat(5), { nil: undefined }), { minLength: 1, maxLength: 8 }),
      (slots, width, wanted) => {
        const sources = wanted.map((source) => (source === undefined || source >= slots ? undefined : source));
        const store = new KvStore(1, width, slots, 2);
        const at = (time: number) =>
          Float32Array.from({ length: slots * width }, (_, i) => 1 + time * slots * width + i);
        for (let time = 0; time < 2; time += 1) store.append(0, time, at(time), at(time));
        store.reshape(sources.length, 3, sources, 2);
        const expected = [0, 1].flatMap((time) =>
          sources.flatMap((source) =>
            source === undefined
              ? new Array<number>(width).fill(0)
              : [...at(time).subarray(source * width, (source + 1) * width)],
          ),
        );
        assert.deepEqual([...store.keys[0]!.subarray(0, expected.length)], expected);
        assert.deepEqual(store.keys, store.values);
      },
    ),
  );
});

test('growing part by part keeps what is there and what is written meanwhile', () => {
  const store = new KvStore(3, 1, 2, 2);
  const write = (time: number) => {
    for (let layer = 0; layer < 3; layer += 1)
      store.scatter(
        layer,
        Int32Array.of(time, time),
        Float32Array.of(time, 10 + time),
        Float32Array.of(time, 20 + time),
      );
  };
  write(0);
  store.reserveAhead(4, 2);
  assert.equal(store.capacity, 2, 'not all parts are done');
  assert.equal(store.bytes, (2 * 8 + 4 * 4) * 4);
  write(1);
  store.reserveAhead(4, 3);
  assert.equal(store.capacity, 2);
  store.reserve(4);
  assert.equal(store.capacity, 4);
  write(3);
  for (let layer = 0; layer < 3; layer += 1) {
    assert.deepEqual([...store.keys[layer]!], [0, 10, 1, 11, 0, 0, 3, 13]);
    assert.deepEqual([...store.values[layer]!], [0, 20, 1, 21, 0, 0, 3, 23]);
  }
});

test('rows change slots in place, with all their positions and no others', () => {
  const fill = () => {
    const store = new KvStore(2, 2, 4, 3);
    for (let layer = 0; layer < 2; layer += 1) {
      for (let time = 0; time < 3; time += 1) {
        const row = Float32Array.from({ length: 8 }, (_, i) => layer * 1000 + time * 100 + i);
        store.scatter(
          layer,
          new Int32Array(4).fill(time),
          row,
          row.map((value) => -value),
        );
      }
    }
    return store;
  };
  const [moved, rebuilt] = [fill(), fill()];
  moved.reorder([2, 1, 3, 0], 3);
  rebuilt.reshape(4, 3, [2, 1, 3, 0], 3);
  assert.deepEqual(moved.keys, rebuilt.keys);
  assert.deepEqual(moved.values, rebuilt.values);
  const kept = fill();
  kept.reorder([1, undefined, 2, 3], 2);
  assert.deepEqual([...kept.keys[1]!.subarray(0, 2)], [1002, 1003]);
  assert.deepEqual([...kept.keys[1]!.subarray(4, 8)], [1004, 1005, 1006, 1007]);
  assert.deepEqual([...kept.keys[1]!.subarray(16, 18)], [1200, 1201], 'positions behind the length stay');
});
