import assert from 'node:assert/strict';
import { test } from 'node:test';
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
  from.copyRow(0, 2, to, 2);
  assert.deepEqual([...to.keys[0]!.subarray((0 * 3 + 2) * 2, (0 * 3 + 3) * 2)], [1, 2]);
  assert.deepEqual([...to.values[0]!.subarray((1 * 3 + 2) * 2, (1 * 3 + 3) * 2)], [7, 8]);
});
