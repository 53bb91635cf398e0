import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { checkAdapterName, nearNames } from '../../server/adapters/adapter-names.js';

describe('adapter names', () => {
  it('may be of any script, with slashes and spaces inside', () => {
    for (const name of ['fr', 'org/french-lora', 'Ünï', '日本語', 'a b', '...', 'x'.repeat(128), '👩‍🚀']) {
      assert.deepEqual(checkAdapterName(name), { name: name.normalize('NFC') });
    }
    assert.deepEqual(checkAdapterName('e\u0301'), { name: '\u00e9' });
  });

  it('are refused with the reason when they could not be written in a URL, a header or a log', () => {
    for (const name of ['', ' a', 'a\n', 'a\u0000', 'a\u2028b', '\ud800', '.', '..', 'x'.repeat(129)]) {
      assert.ok('wrong' in checkAdapterName(name), JSON.stringify(name));
    }
  });

  it('suggest what was probably meant, nearest first', () => {
    const known = ['french', 'french-v2', 'german', 'pirate', 'sql-bot', 'a'];
    assert.deepEqual(nearNames('frech', known), ['french']);
    assert.deepEqual(nearNames('FRENCH', known), ['french', 'french-v2']);
    assert.deepEqual(nearNames('prite', known), ['pirate']);
    assert.deepEqual(nearNames('sqlbot', known), ['sql-bot']);
    assert.deepEqual(nearNames('zzzzzz', known), []);
  });

  it('find a name again after one edit', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[a-z]{4,12}$/), fc.nat(), (name, seed) => {
        const at = seed % name.length;
        assert.ok(nearNames(name.slice(0, at) + name.slice(at + 1), [name, '0000000000000000']).includes(name));
      }),
    );
  });
});
