/** Where rows go among engine threads. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { EngineRow } from '../../server/engine/engine.js';
import { EngineRouter, type Member } from '../../server/engine/engine-router.js';

const row = (first: number, ...digests: readonly string[]) =>
  ({ promptIds: [first, 1, 2], selection: digests.map((digest) => ({ digest, weight: 1 })) }) as unknown as EngineRow;
const member = (...adapters: readonly string[]): Member => ({ rows: 0, adapters: new Set(adapters) });
const send = (router: EngineRouter<Member>, members: readonly Member[], one: EngineRow): Member => {
  const { member: chosen } = router.route(members, one);
  chosen.rows += 1;
  return chosen;
};

test('two rows stay together, more are spread', () => {
  const members = [member(), member(), member()];
  const router = new EngineRouter();
  const places = Array.from({ length: 7 }, (_, i) => members.indexOf(send(router, members, row(i))));
  assert.deepEqual(places, [0, 0, 1, 2, 1, 2, 0]);
});

test('a prompt goes where its beginning was read under the same selection, unless that is busier', () => {
  const members = [member('a'), member('a')];
  const router = new EngineRouter();
  members[0]!.rows = 5;
  assert.equal(send(router, members, row(1)), members[1]);
  members[0]!.rows = 0;
  assert.equal(send(router, members, row(1)), members[1]);
  members[1]!.rows = 2;
  assert.equal(send(router, members, row(1)), members[0], 'two rows more are too many');
  members[1]!.rows = 0;
  members[0]!.rows = 5;
  assert.equal(send(router, members, row(7, 'a')), members[1]);
  members[0]!.rows = 1;
  members[1]!.rows = 2;
  assert.equal(send(router, members, row(7)), members[0], 'the same beginning without the adapter');
  members[0]!.rows = 2;
  assert.equal(send(router, members, row(7, 'a')), members[1]);
});

test('a row goes to the thread that has its adapter, and another gets a copy when that one has more than its share', () => {
  const members = [member(), member('a')];
  const router = new EngineRouter();
  const routes = Array.from({ length: 4 }, (_, i) => {
    const route = router.route(members, row(i, 'a'));
    route.member.rows += 1;
    return [members.indexOf(route.member), route.wanting && members.indexOf(route.wanting)];
  });
  assert.deepEqual(routes, [
    [1, undefined],
    [1, undefined],
    [1, 0],
    [1, 0],
  ]);
});

test('a row never waits for a copy while some thread has all its adapters, and load stays even among those', () => {
  fc.assert(
    fc.property(
      fc.array(fc.subarray(['a', 'b', 'c']), { minLength: 1, maxLength: 4 }),
      fc.array(fc.tuple(fc.nat(5), fc.subarray(['a', 'b', 'c'])), { maxLength: 60 }),
      (held, rows) => {
        const members = held.map((adapters) => member(...adapters));
        const router = new EngineRouter();
        for (const [first, needs] of rows) {
          const able = members.filter(({ adapters }) => needs.every((digest) => adapters.has(digest)));
          const candidates = able.length === 0 ? members : able;
          const least = Math.min(...candidates.map(({ rows: count }) => count));
          const before = new Map(members.map((one) => [one, one.rows]));
          const chosen = send(router, members, row(first, ...needs));
          assert.ok(candidates.includes(chosen));
          assert.ok(before.get(chosen)! <= least + 1);
        }
      },
    ),
  );
});
