import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { LookOrder } from '../../server/listener/look-order.js';

/** Looks once; everything due is quiet but for what `isBusy` says. */
function look(order: LookOrder<number>, isBusy: (one: number) => boolean = () => false): number[] {
  const due = order.due();
  for (const one of due) order.settle(one, !isBusy(one));
  return due;
}

describe('the order of looks', () => {
  it('looks at few of very many quiet ones, and at each within eight looks', () => {
    const order = new LookOrder<number>();
    for (let i = 0; i < 10_000; i += 1) order.add(i);
    assert.equal(look(order).length, 10_000);
    const looks = Array.from({ length: 8 }, () => look(order));
    assert.deepEqual(
      looks.map(({ length }) => length),
      new Array(8).fill(1250),
    );
    assert.equal(new Set(looks.flat()).size, 10_000);
  });

  it('looks at a few hundred every time', () => {
    const order = new LookOrder<number>();
    for (let i = 0; i < 256; i += 1) order.add(i);
    for (let i = 0; i < 3; i += 1) assert.equal(new Set(look(order)).size, 256);
  });

  it('looks every time at what is busy, was found busy in its turn, or was stirred, and never at what has gone', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 3000 }),
        fc.array(fc.tuple(fc.constantFrom('stir', 'delete', 'add'), fc.nat(3000)), { maxLength: 40 }),
        fc.nat(50),
        (count, changes, divisor) => {
          const order = new LookOrder<number>();
          const there = new Set<number>();
          for (let i = 0; i < count; i += 1) there.add(i);
          for (const one of there) order.add(one);
          const isBusy = (one: number) => divisor > 0 && one % divisor === 1;
          for (let i = 0; i < 9; i += 1) look(order, isBusy);
          const stirred = new Set<number>();
          for (const [what, one] of changes) {
            if (what === 'delete') {
              order.delete(one);
              there.delete(one);
              stirred.delete(one);
            } else if (there.has(one)) {
              order.stir(one);
              stirred.add(one);
            } else if (what === 'add') {
              order.add(one);
              there.add(one);
              stirred.add(one);
            }
          }
          assert.deepEqual(new Set(order), there);
          const due = look(order, isBusy);
          assert.equal(new Set(due).size, due.length);
          assert.ok(due.every((one) => there.has(one)));
          const must = [...there].filter((one) => isBusy(one) || stirred.has(one));
          assert.deepEqual(
            must.filter((one) => !due.includes(one)),
            [],
          );
        },
      ),
      { numRuns: 50 },
    );
  });
});
