/** A tokenizer with tokens that an adapter adds, against the library reading a tokenizer.json that has them. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { withAddedTokens } from '../../server/text/added-tokens.js';
import { makeTokenizer } from '../../server/text/hf-tokenizer.js';

const MODELS = fileURLToPath(new URL('../../../shared/golden/models/', import.meta.url));

for (const model of ['llama', 'gemma', 'qwen2', 'gpt2']) {
  describe(`added tokens over the tokenizer of ${model}`, () => {
    const read = (name: string) => JSON.parse(readFileSync(`${MODELS}${model}/${name}`, 'utf8'));
    const file = read('tokenizer.json');
    const own = makeTokenizer(file, read('tokenizer_config.json'));
    const first = 5000;
    const tokens = [
      { id: first, content: '<|begin|>', special: true },
      { id: first + 1, content: '<|begin|>more', special: false },
      { id: first + 2, content: '[x.y]', special: false },
    ];
    const extended = withAddedTokens(own, tokens);
    const shape = { single_word: false, lstrip: false, rstrip: false, normalized: false };
    const entries = tokens.map(({ id, content, special }) => ({ id, content, special, ...shape }));
    const whole = makeTokenizer(
      { ...file, added_tokens: [...file.added_tokens, ...entries] },
      read('tokenizer_config.json'),
    );
    const piece = fc.constantFrom(
      '<|begin|>',
      '<|begin|>more',
      '[x.y]',
      'hello',
      ' world',
      'é',
      '🙂',
      '\n',
      'a',
      '<|',
      '|>',
      '[x',
      ' ',
    );

    test('texts become the ids that one tokenizer with all tokens gives', () => {
      fc.assert(
        fc.property(fc.array(piece, { maxLength: 8 }), fc.boolean(), (pieces, special) => {
          const text = pieces.join('');
          assert.deepEqual(extended.encode(text, special), whole.encode(text, special), JSON.stringify(text));
        }),
        { numRuns: 200, seed: 7 },
      );
    });

    test('ids become its text, token by token, and special ones are left out where asked', () => {
      fc.assert(
        fc.property(fc.array(piece, { maxLength: 8 }), fc.boolean(), (pieces, skip) => {
          const ids = whole.encode(pieces.join(''), false);
          assert.equal(extended.decode(ids, skip), whole.decode(ids, skip), JSON.stringify(ids));
        }),
        { numRuns: 200, seed: 7 },
      );
    });

    test('what the model knows already keeps its id', () => {
      const known = file.added_tokens[0] ?? { id: own.idOf('a'), content: 'a' };
      const same = withAddedTokens(own, [{ id: 9999, content: known.content, special: false }]);
      assert.equal(same, own);
      assert.equal(extended.idOf(known.content), known.id);
      assert.equal(extended.idOf('[x.y]'), first + 2);
      assert.equal(extended.isSpecial(first), true);
      assert.equal(extended.isSpecial(first + 2), false);
    });
  });
}
