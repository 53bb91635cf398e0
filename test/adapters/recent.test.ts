import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Recent } from '../../server/adapters/recent.js';

const bytes = (text: string) => new TextEncoder().encode(text);

describe('what was made of bytes that come again', () => {
  it('is made once for equal bytes of equal size, and anew for others', () => {
    const recent = new Recent<{ text: string }>();
    const first = recent.of(bytes('a'), 1, () => ({ text: 'first' }));
    assert.equal(
      recent.of(bytes('a'), 1, () => assert.fail('made again')),
      first,
    );
    assert.equal(recent.of(bytes('a'), 2, () => ({ text: 'other size' })).text, 'other size');
    assert.equal(recent.of(bytes('b'), 1, () => ({ text: 'other bytes' })).text, 'other bytes');
  });

  it('is not kept where making it fails', () => {
    const recent = new Recent<string>();
    const fail = () => {
      throw new Error('broken');
    };
    assert.throws(() => recent.of(bytes('a'), 1, fail), /broken/);
    assert.equal(
      recent.of(bytes('a'), 1, () => 'whole'),
      'whole',
    );
  });

  it('is kept for the last few, and never for long bytes', () => {
    const recent = new Recent<number>();
    let made = 0;
    const make = () => ++made;
    recent.of(bytes('stays'), 0, make);
    for (let i = 0; i < 20; i += 1) {
      recent.of(bytes(`passes ${i}`), 0, make);
      assert.equal(recent.of(bytes('stays'), 0, make), 1);
    }
    assert.equal(recent.of(bytes('passes 0'), 0, make), 22);
    const long = new Uint8Array(1024 * 1024);
    assert.equal(recent.of(long, 0, make), 23);
    assert.equal(recent.of(long, 0, make), 24);
  });
});
