/**
 * A real model and two trained adapters in one batch with base rows, in float32, against PEFT. Runs where that model has
 * been made: see tools/real/README.md for the variables that name it.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { GREEDY } from '../../bench/greedy.js';
import { prepareAdapter } from '../../server/adapters/prepare-adapter.js';
import { EngineLoop } from '../../server/engine/engine-loop.js';
import { SUPPORTED_FEATURES } from '../../server/engine/features.js';
import { openBackend } from '../../server/engine/open-backend.js';
import { openModelFolder } from '../../server/model/model-folder.js';
import { adapterBaseOf } from '../../server/model/module-table.js';
import { loadTokenizer } from '../../server/text/hf-tokenizer.js';

const { LORAMUX_REAL_MODEL: model, LORAMUX_REAL_ADAPTERS: adapters, LORAMUX_PYTHON: python } = process.env;
const NAMES = ['shout', 'json'];
/** Where two tokens lie closer than this, float32 arithmetic in another order may choose the other one. */
const TIE = 2e-3;
const missing = [
  ...(model === undefined ? ['LORAMUX_REAL_MODEL'] : []),
  ...(adapters === undefined ? ['LORAMUX_REAL_ADAPTERS'] : []),
  ...(python === undefined ? ['LORAMUX_PYTHON'] : []),
];
const skip =
  missing.length > 0 ? `${missing.join(', ')} not set: no real model, adapters or Python with PEFT named` : false;

interface Expected {
  readonly adapter: string | null;
  readonly ids: number[];
  readonly new: number[];
  readonly margins: number[];
  readonly text: string;
}

test('trained adapters and base rows in one batch give the tokens of PEFT', { skip }, async (t) => {
  const script = fileURLToPath(new URL('../../tools/real/expected.py', import.meta.url));
  const expected = JSON.parse(
    execFileSync(python!, [script, model!, adapters!, ...NAMES], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }),
  ) as Expected[];
  const folder = await openModelFolder(model!);
  t.after(() => folder.close());
  const backend = await openBackend(folder, { dtype: 'fp32', threads: 2, lora: true });
  const loop = new EngineLoop(backend, { maxBatch: expected.length, prefillChunk: 64, maxPositions: 8192 });
  const digests = new Map<string, string>();
  for (const name of NAMES) {
    const request = { folder: `${adapters}/${name}`, roots: [adapters!], supportedFeatures: SUPPORTED_FEATURES };
    const { adapter } = await prepareAdapter(request, adapterBaseOf(folder));
    await loop.load(adapter);
    digests.set(name, adapter.digest);
  }
  for (const [id, row] of expected.entries()) {
    const selection = row.adapter === null ? [] : [{ digest: digests.get(row.adapter)!, weight: 1 }];
    const length = row.new.length;
    const greedy = { sampling: GREEDY, maxNewTokens: length, endIds: [] };
    loop.submit({ id, promptIds: row.ids, selection, ...greedy, submittedAt: 0 });
  }
  const got: number[][] = expected.map(() => []);
  let together = 0;
  while (loop.busy) {
    const { tokens, ends } = await loop.step();
    together = Math.max(together, tokens.length);
    for (const { id, token } of tokens) got[id]!.push(token);
    for (const { cause, message } of ends) assert.notEqual(cause, 'error', message);
  }
  assert.equal(together, expected.length, 'all rows were decoded in one step');
  const tokenizer = await loadTokenizer(folder.dir);
  for (const [at, row] of expected.entries()) {
    const tie = row.margins.findIndex((margin) => margin < TIE);
    const compared = tie < 0 ? row.new.length : tie;
    const what = `${row.adapter ?? 'base'}: ${tokenizer.decode(got[at]!, false)}`;
    t.diagnostic(`${compared} tokens compared, ${what}`);
    assert.deepEqual(got[at]!.slice(0, compared), row.new.slice(0, compared), what);
  }
  const texts = expected.map(({ text }) => text);
  assert.equal(new Set(texts).size, texts.length, 'the adapters show in the answers');
});
