import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { parseStrictJson } from '../../server/adapters/strict-json.js';

const plain = (value: unknown) => JSON.parse(JSON.stringify(value)) as unknown;

describe('strict JSON', () => {
  it('reads what JSON.parse reads, whatever the white space', () => {
    fc.assert(
      fc.property(fc.json(), fc.constantFrom(0, 1, '\t'), (text, indent) => {
        const value: unknown = JSON.parse(text);
        const again = JSON.stringify(value, null, indent);
        assert.deepEqual(plain(parseStrictJson(again)), plain(value));
      }),
    );
  });

  it('refuses whatever JSON.parse refuses', () => {
    fc.assert(
      fc.property(fc.json(), fc.nat(), fc.string({ maxLength: 3 }), (text, seed, insert) => {
        const at = seed % (text.length + 1);
        const broken = text.slice(0, at) + insert + text.slice(at + 1);
        let refused = false;
        try {
          JSON.parse(broken);
        } catch {
          refused = true;
        }
        if (refused) assert.throws(() => parseStrictJson(broken), SyntaxError);
      }),
      { numRuns: 500 },
    );
  });

  it('refuses a key that stands twice, in whatever spelling', () => {
    assert.throws(() => parseStrictJson('{"a": 1, "a": 2}'), /"a" stands twice/);
    assert.throws(() => parseStrictJson('[{"b": {"a": 1, "\\u0061": 2}}]'), /"a" stands twice/);
  });

  it('keeps __proto__ as a plain key', () => {
    const value = parseStrictJson('{"__proto__": {"polluted": true}}') as Record<string, unknown>;
    assert.deepEqual(Object.keys(value), ['__proto__']);
    assert.equal(({} as Record<string, unknown>).polluted, undefined);
  });

  it('refuses deep nesting, text after the value, invalid UTF-8, a byte order mark and numbers beyond float64', () => {
    assert.throws(() => parseStrictJson('['.repeat(100_000)), /levels of nesting/);
    assert.throws(() => parseStrictJson('{} {}'), /after the end/);
    assert.throws(() => parseStrictJson(Uint8Array.of(0x22, 0xff, 0x22)), /UTF-8/);
    assert.throws(() => parseStrictJson(Uint8Array.of(0xef, 0xbb, 0xbf, 0x7b, 0x7d)), /not the start of a value/);
    assert.throws(() => parseStrictJson('1e999'), /out of range/);
    for (const word of ['NaN', 'Infinity', '-Infinity', 'undefined', '01', '+1', '.5', "'a'"]) {
      assert.throws(() => parseStrictJson(word), SyntaxError, word);
    }
  });
});
