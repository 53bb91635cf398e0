/** Look-up in every family and with every kind of adapter: windows, soft caps, positions, tables that grow, gains. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { BoundAdapter } from '../../server/adapters/types.js';
import type { SamplingOptions } from '../../server/engine/messages.js';
import { GOLDEN, GOLDEN_MODELS, type GoldenFile } from './golden-model.js';
import { CHOICES, few, openPair, sameWithGuesses } from './look-up-run.js';
import { GREEDY, type TestRow } from './loop-run.js';

const FAMILIES = fileURLToPath(new URL('../fixtures/families/', import.meta.url));
/** Beyond every window and every table of the first positions; within the shortest model. */
const PROMPT = Array.from({ length: 20 }, (_, i) => 5 + (i % 6));
const NEW_TOKENS = 43;

/** A model's folder and its adapters' by name. */
interface Fixture {
  readonly dir: string;
  readonly adapters: ReadonlyMap<string, string>;
}

function goldenFile(name: string): GoldenFile {
  return JSON.parse(readFileSync(`${GOLDEN}golden/${name}/golden.json`, 'utf8')) as GoldenFile;
}

const fixtures = new Map<string, Fixture>();
for (const name of GOLDEN_MODELS) {
  const loaded = Object.entries(goldenFile(name).adapters).filter(([, { policy }]) => policy === 'load');
  const adapters = new Map(loaded.map(([adapter, { path }]) => [adapter, `${GOLDEN}${path}`]));
  fixtures.set(name, { dir: `${GOLDEN}models/${name}`, adapters });
}
for (const name of readdirSync(FAMILIES)) {
  const dir = `${FAMILIES}${name}`;
  const names = existsSync(`${dir}/adapters`) ? readdirSync(`${dir}/adapters`) : [];
  fixtures.set(name, { dir, adapters: new Map(names.map((adapter) => [adapter, `${dir}/adapters/${adapter}`])) });
}

for (const [name, { dir, adapters }] of fixtures) {
  describe(`look-up in ${name}`, async () => {
    const pair = await openPair(dir);
    after(() => pair.folder.close());
    const rowOf = (sampling: SamplingOptions, adapter?: BoundAdapter): TestRow => ({
      promptIds: PROMPT,
      selection: adapter === undefined ? [] : [{ digest: adapter.digest, weight: 1 }],
      sampling: few(sampling, [5, 6]),
      maxNewTokens: NEW_TOKENS,
      arrives: 0,
    });

    test('base and every adapter alone get what they get without', async () => {
      let rejected = 0;
      for (const path of [undefined, ...adapters.values()]) {
        const adapter = path === undefined ? undefined : await pair.load(path);
        const got = await sameWithGuesses(pair, rowOf(CHOICES.seeded, adapter));
        assert.equal(got.tokens.length, NEW_TOKENS);
        assert.ok(got.accepted > 0, `${path ?? 'base'}: no guess came true`);
        rejected += got.rejected;
      }
      assert.ok(rejected > 0, 'no guess was wrong');
    });

    test('the likeliest tokens are the same, too', async () => {
      const { accepted } = await sameWithGuesses(pair, rowOf(CHOICES.greedy));
      assert.ok(accepted > 0, 'no guess came true');
    });
  });
}

for (const name of GOLDEN_MODELS) {
  describe(`look-up in the golden prompts of ${name}`, async () => {
    const golden = goldenFile(name);
    const pair = await openPair(`${GOLDEN}models/${name}`);
    after(() => pair.folder.close());
    test("answers are PyTorch's, and go on as they do without", async () => {
      let accepted = 0;
      for (const [adapter, path] of [[null, undefined] as const, ...fixtures.get(name)!.adapters]) {
        const loaded = path === undefined ? undefined : await pair.load(path);
        const selection = loaded === undefined ? [] : [{ digest: loaded.digest, weight: 1 }];
        const answers = adapter === null ? golden.base : golden.adapters[adapter]!.prompts;
        for (const [prompt, { greedy }] of Object.entries(answers ?? {})) {
          const promptIds = golden.prompts.find(({ id }) => id === prompt)!.token_ids;
          const row = { promptIds, selection, sampling: GREEDY, arrives: 0, maxNewTokens: greedy.length };
          const got = await sameWithGuesses(pair, row);
          assert.deepEqual(got.tokens, greedy, `${adapter ?? 'base'} on ${prompt}`);
          accepted += got.accepted;
        }
      }
      assert.ok(accepted > 0, 'no guess came true');
    });
  });
}
