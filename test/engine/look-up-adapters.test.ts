/** Look-up with adapters whose weights begin within the row, and with those that bring ids of their own. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { GOLDEN } from './golden-model.js';
import { CHOICES, few, openPair, sameWithGuesses } from './look-up-run.js';
import type { TestRow } from './loop-run.js';

const CASES = fileURLToPath(new URL('../fixtures/peft-cases/', import.meta.url));
const FAMILIES = fileURLToPath(new URL('../fixtures/families/', import.meta.url));
const NEW_TOKENS = 40;

interface Case {
  readonly name: string;
  readonly model: string;
  readonly vocab: number;
  readonly prompts: readonly { readonly ids: number[] }[];
  readonly invocation: readonly number[];
}

function json(path: string): never {
  return JSON.parse(readFileSync(path, 'utf8')) as never;
}

const cases = readdirSync(CASES).map((name): Case => {
  const { alora_invocation_tokens } = json(`${CASES}${name}/adapter_config.json`) as Record<string, number[]>;
  return { ...(json(`${CASES}${name}/expected.json`) as Case), name, invocation: alora_invocation_tokens ?? [] };
});

for (const model of new Set(cases.map((one) => one.model))) {
  describe(`look-up with adapters of ${model} that change more than layers`, async () => {
    const golden = `${GOLDEN}models/${model}`;
    const pair = await openPair(existsSync(golden) ? golden : `${FAMILIES}${model}`);
    after(() => pair.folder.close());
    const { vocabSize } = pair.folder.spec;
    for (const { name, vocab, prompts, invocation } of cases.filter((one) => one.model === model)) {
      test(`${name}: the same tokens and log-probabilities`, async () => {
        const { digest } = await pair.load(`${CASES}${name}`);
        // Ids beyond the base's where the adapter has them: they are guessed, read and picked, and so they are embedded.
        const ids = vocab > vocabSize ? [5, vocabSize + 1] : [5, 6];
        // Activated ones begin within the prompt; the row may write the invocation again.
        const chosen = new Set(invocation.length > 0 ? [...ids.slice(1), ...invocation] : ids);
        let [accepted, own, invoked] = [0, 0, 0];
        for (const prompt of prompts) {
          const sampling = few({ ...CHOICES.seeded, temperature: 8 }, [...chosen]);
          const selection = [{ digest, weight: 1 }];
          const repeated = Array.from({ length: 8 }, (_, i) => ids[i % 2]!);
          for (const promptIds of [
            [...repeated, ...prompt.ids],
            [...prompt.ids, ...repeated],
          ]) {
            const row = { promptIds, selection, sampling, maxNewTokens: NEW_TOKENS, arrives: 0 };
            const got = await sameWithGuesses(pair, row);
            assert.equal(got.tokens.length, NEW_TOKENS);
            accepted += got.accepted;
            own += got.tokens.filter((id) => id >= vocabSize).length;
            invoked += got.tokens.filter((_, at) => invocation.every((id, i) => got.tokens[at + i] === id)).length;
          }
        }
        assert.ok(accepted > 0, 'no guess came true');
        assert.equal(own > 0, vocab > vocabSize);
        assert.ok(invoked > 0, 'the invocation was never written');
      });
    }
  });
}

describe('look-up with an activated adapter', async () => {
  const pair = await openPair(`${GOLDEN}models/llama`, { prefixBytes: 1 << 24 });
  after(() => pair.folder.close());
  const { digest, invocationTokens } = await pair.load(`${GOLDEN}adapters/llama/alora`);
  const other = await pair.load(`${GOLDEN}adapters/llama/qv-r4`);
  const invocation = [...invocationTokens!];
  const text = Array.from({ length: 40 }, (_, i) => 5 + (i % 4));
  const rowOf = (promptIds: readonly number[], more: Partial<TestRow> = {}): TestRow => ({
    promptIds,
    selection: [{ digest, weight: 1 }],
    sampling: few(CHOICES.seeded, [5, 6]),
    maxNewTokens: 60,
    arrives: 0,
    ...more,
  });

  for (const [where, prompt] of Object.entries({
    'nowhere begun': text,
    'begun at the end': [...text, ...invocation],
    'begun in the middle': [...text, ...invocation, ...text],
    'begun twice': [...text, ...invocation, ...text, ...invocation, 5, 6],
  })) {
    test(`${where}: the same tokens, also of what the prefix cache has`, async () => {
      const got = await sameWithGuesses(pair, rowOf(prompt));
      assert.ok(got.accepted > 0, 'no guess came true');
      assert.ok(got.rejected > 0, 'no guess was wrong');
      const next = rowOf([...prompt, ...got.tokens], { maxNewTokens: 20 });
      const further = await sameWithGuesses(pair, next);
      assert.ok(further.end!.cachedTokens > 0);
    });
  }

  test('beside a plain one in a mixture: the same tokens', async () => {
    const selection = [
      { digest, weight: 0.5 },
      { digest: other.digest, weight: 0.5 },
    ];
    const got = await sameWithGuesses(pair, rowOf([...text, ...invocation, 5, 6, 5], { selection }));
    assert.ok(got.accepted > 0);
  });
});
