/** Guesses from a row's own text, and how many of them to try. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { DraftWidth, LONGEST_MATCH, SHORTEST_MATCH, TokenIndex } from '../../server/engine/draft.js';

/** The same by search: where the longest end stood before, latest first. */
function searched(ids: readonly number[], most: number): number[] {
  for (let size = LONGEST_MATCH; size >= SHORTEST_MATCH; size -= 1) {
    const end = ids.slice(-size);
    if (end.length < size) continue;
    for (let from = ids.length - size - 1; from >= 0; from -= 1) {
      if (!end.every((id, i) => ids[from + i] === id)) continue;
      const text = [...ids];
      for (let at = from + size; text.length < ids.length + most; at += 1) text.push(text[at]!);
      return text.slice(ids.length);
    }
  }
  return [];
}

describe('the index of a row', () => {
  test('drafts what a search through all tokens finds, after every token', () => {
    const id = fc.oneof(fc.integer({ min: 0, max: 3 }), fc.constantFrom(0, 1, 2 ** 21 - 1));
    fc.assert(
      fc.property(fc.array(id, { maxLength: 60 }), fc.integer({ min: 0, max: 9 }), (ids, most) => {
        const index = new TokenIndex();
        for (const [at, one] of ids.entries()) {
          index.push(one);
          assert.equal(index.length, at + 1);
          assert.deepEqual(index.draft(most), searched(ids.slice(0, at + 1), most));
        }
      }),
      { numRuns: 300 },
    );
  });

  test('takes the latest of several places, and three tokens before two', () => {
    const after = (ids: readonly number[]) => {
      const index = new TokenIndex();
      for (const id of ids) index.push(id);
      return index.draft(2);
    };
    assert.deepEqual(after([1, 2, 3, 1, 2, 4, 1, 2]), [4, 1]);
    assert.deepEqual(after([9, 1, 2, 3, 8, 1, 2, 4, 9, 1, 2]), [3, 8]);
    assert.deepEqual(after([5, 5, 5]), [5, 5]);
    assert.deepEqual(after([1, 2, 3, 4]), []);
  });
});

describe('the number of guesses', () => {
  test('grows while all come true, up to the most', () => {
    const width = new DraftWidth(10);
    const tried = [0, 0, 0, 0].map(() => {
      const next = width.next();
      width.told(next, next);
      return next;
    });
    assert.deepEqual(tried, [4, 8, 10, 10]);
  });

  test('follows what was accepted lately', () => {
    const width = new DraftWidth(10);
    width.told(width.next(), 2);
    assert.equal(width.next(), 3);
  });

  test('guesses that fail are tried ever more rarely, one at a time, until one comes true', () => {
    const width = new DraftWidth(10);
    let tries = 0;
    for (let step = 0; step < 2000; step += 1) {
      const next = width.next();
      if (next === 0) continue;
      assert.equal(next, tries === 0 ? 4 : 1);
      tries += 1;
      width.told(next, 0);
    }
    assert.ok(tries > 10 && tries < 45, `${tries}`);
    let pause = 0;
    while (width.next() === 0) pause += 1;
    assert.ok(pause <= 64);
    width.told(1, 1);
    assert.equal(width.next(), 2);
    width.told(2, 0);
    assert.deepEqual([width.next(), width.next()], [0, 1]);
  });

  test('is never above the most', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 9 }), fc.array(fc.nat()), (most, shares) => {
        const width = new DraftWidth(most);
        for (const share of shares) {
          const next = width.next();
          assert.ok(next >= 0 && next <= most);
          if (next > 0) width.told(next, share % (next + 1));
        }
      }),
    );
  });
});
