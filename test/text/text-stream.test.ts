import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { loadTokenizer } from '../../server/text/hf-tokenizer.js';
import { type TextPiece, TextStream } from '../../server/text/text-stream.js';
import type { Tokenizer } from '../../server/text/tokenizer.js';

const GOLDEN = fileURLToPath(new URL('../../../shared/golden/', import.meta.url));
const MODELS = ['llama', 'llama-rope3', 'qwen2', 'qwen3', 'mistral', 'gemma', 'gpt2'];

/** Runs ids through a stream until it stops or they end. */
function run(tokenizer: Tokenizer, ids: readonly number[], stops: readonly string[]) {
  const stream = new TextStream(tokenizer, stops);
  const pieces: TextPiece[] = [];
  for (const [at, id] of ids.entries()) {
    const released = stream.push(id);
    pieces.push(...released.pieces);
    if (released.stop !== undefined) return { pieces, stop: released.stop, pushed: at + 1 };
  }
  const released = stream.end();
  pieces.push(...released.pieces);
  return { pieces, stop: released.stop, pushed: ids.length };
}

const textOf = (pieces: readonly TextPiece[]): string => pieces.map(({ text }) => text).join('');

/** The answer as it is defined: the whole text, cut before the stop string that is complete first. */
function cutWhole(text: string, stops: readonly string[]): { text: string; stop: string | undefined } {
  for (let end = 0; end <= text.length; end++) {
    const ending = stops.filter((stop) => text.slice(0, end).endsWith(stop)).sort((a, b) => b.length - a.length);
    if (ending.length > 0) return { text: text.slice(0, end - ending[0]!.length), stop: ending[0] };
  }
  return { text, stop: undefined };
}

for (const model of MODELS) {
  describe(`streaming with the tokenizer of ${model}`, async () => {
    const tokenizer = await loadTokenizer(join(GOLDEN, 'models', model));
    const golden = JSON.parse(await readFile(join(GOLDEN, 'golden', model, 'golden.json'), 'utf8'));
    const vocabSize: number = golden.vocab_size;
    // Some ids beyond the vocabulary too: rows of the embedding that have no token.
    const sequences = fc.array(fc.integer({ min: 0, max: vocabSize + 3 }), { maxLength: 40 });

    it('has the text of every golden prefix', () => {
      const { ids, texts } = golden.incremental_decode as { ids: number[]; texts: string[] };
      for (const [at, text] of texts.entries()) {
        assert.equal(textOf(run(tokenizer, ids.slice(0, at + 1), []).pieces), text);
      }
      const stream = new TextStream(tokenizer, []);
      let sent = '';
      for (const [at, id] of ids.entries()) {
        sent += textOf(stream.push(id).pieces);
        assert.ok(texts[at]!.startsWith(sent), 'what was sent stays true');
      }
      assert.equal(sent + textOf(stream.end().pieces), texts.at(-1));
    });

    it('joins to the text of the whole sequence, token by token', () => {
      fc.assert(
        fc.property(sequences, (ids) => {
          const { pieces } = run(tokenizer, ids, []);
          assert.deepEqual(
            pieces.map(({ id }) => id),
            ids,
          );
          assert.equal(textOf(pieces), tokenizer.decode(ids, true));
          for (const { text } of pieces) assert.doesNotMatch(text, /\p{Surrogate}/u);
        }),
        { numRuns: 300 },
      );
    });

    it('cuts before the stop string that is complete first, wherever the tokens end', () => {
      fc.assert(
        fc.property(
          sequences,
          fc.array(fc.tuple(fc.nat(), fc.integer({ min: 1, max: 5 })), { maxLength: 4 }),
          (ids, cuts) => {
            const whole = tokenizer.decode(ids, true);
            const characters = [...whole];
            const stops = cuts
              .map(([from, length]) =>
                characters
                  .slice(from % (characters.length || 1))
                  .slice(0, length)
                  .join(''),
              )
              .filter((stop) => stop !== '');
            stops.push('e t', 'ab');
            const { pieces, stop, pushed } = run(tokenizer, ids, stops);
            const expected = cutWhole(whole, stops);
            assert.deepEqual({ text: textOf(pieces), stop }, expected);
            assert.deepEqual(
              pieces.map(({ id }) => id),
              ids.slice(0, pieces.length),
            );
            assert.ok(pieces.length <= pushed);
            // The last piece is the token that completed the stop string: without it the text does not hold one.
            if (stop !== undefined) {
              const before = new TextStream(tokenizer, stops);
              for (const id of ids.slice(0, pieces.length - 1)) assert.equal(before.push(id).stop, undefined);
            }
          },
        ),
        { numRuns: 300 },
      );
    });
  });
}

describe('release', async () => {
  const llama = await loadTokenizer(join(GOLDEN, 'models', 'llama'));
  const mistral = await loadTokenizer(join(GOLDEN, 'models', 'mistral'));

  it('waits for the rest of a character, and gives up at the end', () => {
    const ids = llama.encode('🙂', false);
    assert.ok(ids.length > 1);
    const stream = new TextStream(llama, []);
    for (const id of ids.slice(0, -1)) assert.equal(textOf(stream.push(id).pieces), '');
    assert.equal(textOf(stream.push(ids.at(-1)!).pieces), '🙂');
    const broken = new TextStream(llama, []);
    broken.push(ids[0]!);
    assert.equal(textOf(broken.end().pieces), '\ufffd');
  });

  it('does not hold back bytes that can no longer become a character', () => {
    const continuation = llama.encode('🙂', false).at(-1)!;
    const stream = new TextStream(llama, []);
    for (let n = 0; n < 5; n++) assert.match(textOf(stream.push(continuation).pieces), /\ufffd/);
  });

  it('holds back what may begin a stop string and releases it when it does not', () => {
    const ids = llama.encode('abc', false);
    const stream = new TextStream(llama, ['abd']);
    const texts = ids.map((id) => textOf(stream.push(id).pieces));
    assert.equal(texts.join(''), 'abc');
    assert.equal(texts[0], ids.length > 1 ? '' : 'abc');
  });

  it('releases a token that ends the row last and without text', () => {
    const eos = llama.idOf('<|eot_id|>')!;
    const [a] = llama.encode('a', false);
    const stream = new TextStream(llama, ['ab']);
    assert.deepEqual(stream.push(a!).pieces, []);
    assert.deepEqual(stream.end(eos).pieces, [
      { id: a, text: 'a' },
      { id: eos, text: '' },
    ]);
    assert.deepEqual(stream.push(a!).pieces, [], 'nothing after the end');
  });

  it('drops the leading space of a SentencePiece text, but not of a continuation', () => {
    const ids = mistral.encode('hello world', false);
    assert.equal(textOf(run(mistral, ids, []).pieces), 'hello world');
    const stream = new TextStream(mistral, [], { skipSpecialTokens: true, continuation: true });
    const text = ids.map((id) => textOf(stream.push(id).pieces)).join('') + textOf(stream.end().pieces);
    assert.equal(text, ' hello world');
  });
});
