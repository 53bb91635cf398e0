/** Weighted mixtures and merged models through the public API, against PyTorch's exact sums. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { GOLDEN, type GoldenFile } from '../engine/golden-model.js';
import { spawnServer, startServer } from '../rest/served.js';

const MAIN = fileURLToPath(new URL('../../bin/loramux.mjs', import.meta.url));
const golden = JSON.parse(readFileSync(`${GOLDEN}golden/llama/golden.json`, 'utf8')) as GoldenFile;
const { text } = golden.prompts.find(({ id }) => id === 'p0')!;
const MODEL = ['--model', `${GOLDEN}models/llama`, '--adapters', `${GOLDEN}adapters/llama`, '--log-level', 'error'];
const PARAMETERS = { max_new_tokens: 24, details: true, ignore_eos_token: true };

async function invoke(url: string, body: object): Promise<{ status: number; json: never }> {
  const response = await fetch(`${url}/invocations`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ parameters: PARAMETERS, ...body }),
  });
  return { status: response.status, json: (await response.json()) as never };
}
const ids = (answer: { details: { tokens: { id: number }[] } }) => answer.details.tokens.map(({ id }) => id);
const sums = golden.weighted.filter(({ combination_type }) => combination_type === 'cat');

describe('mixtures', () => {
  let url: string;
  let stop: () => Promise<void>;
  before(async () => {
    ({ url, stop } = await spawnServer(MODEL));
  });
  after(() => stop());

  test('different weighted sums in one batch are each the exact sum', async () => {
    const mixes = sums.map(({ adapters, weights }) => adapters.map((name, i) => ({ name, weight: weights[i] })));
    const { json } = await invoke(url, { inputs: [...mixes.map(() => text), text], adapters: [...mixes, ''] });
    const answers = json as { details: { tokens: { id: number }[] } }[];
    for (const [i, { prompts }] of sums.entries()) assert.deepEqual(ids(answers[i]!), prompts.p0!.greedy);
    assert.deepEqual(ids(answers.at(-1)!), golden.base.p0!.greedy);
  });

  test('a weight of zero is the base, and two opposite weights are too', async () => {
    const opposite = [
      { name: 'all-r8', weight: 0.5 },
      { name: 'mlp-r16', weight: 0 },
    ];
    const { json } = await invoke(url, { inputs: [text, text], adapters: [[{ name: 'all-r8', weight: 0 }], opposite] });
    const [zero, half] = json as { details: { tokens: { id: number }[] } }[];
    assert.deepEqual(ids(zero!), golden.base.p0!.greedy);
    assert.notDeepEqual(ids(half!), golden.base.p0!.greedy);
  });

  test('a weight beyond the range of floats is told, and no fault of the server', async () => {
    for (const adapters of [
      { name: 'all-r8', weight: 1e300 },
      [{ name: 'all-r8', weight: -1e39 }, { name: 'mlp-r16' }],
    ]) {
      const { status, json } = await invoke(url, { inputs: text, adapters });
      const { reason, message } = json as { reason: string; message: string };
      assert.deepEqual([status, reason], [424, 'ADAPTER_OVERFLOW']);
      assert.match(message, /"all-r8" x -?1e\+\d+.*cannot be computed/);
    }
  });

  test('what replaces or rescales weights is refused in a mixture, and answers alone', async () => {
    for (const name of ['dora', 'save-lmhead', 'save-embed-norm', 'tokens']) {
      for (const mix of [
        [{ name, weight: 0.5 }],
        [
          { name, weight: 1 },
          { name: 'qv-r4', weight: 1 },
        ],
      ]) {
        const { status, json } = await invoke(url, { inputs: text, adapters: mix });
        assert.equal(status, 400);
        assert.equal((json as { reason: string }).reason, 'ADAPTER_NOT_MIXABLE');
      }
      assert.equal((await invoke(url, { inputs: text, adapters: name })).status, 200);
    }
  });
});

describe('merged models', () => {
  test('--merge serves the weighted sum as a model of its own, which takes no adapters', async (t) => {
    const { adapters, weights, prompts } = sums[0]!;
    const merge = adapters.map((name, i) => `${name}:${weights[i]}`).join(',');
    const url = await startServer(t, [...MODEL, '--merge', merge]);
    const { json } = await invoke(url, { inputs: text });
    assert.deepEqual(ids(json), prompts.p0!.greedy);
    assert.equal((await invoke(url, { inputs: text, adapters: 'qv-r4' })).status, 400);
  });

  test('a folder that is itself an adapter serves its base with the adapter merged in', async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'loramux-peft-'));
    t.after(() => rmSync(folder, { recursive: true }));
    cpSync(`${GOLDEN}adapters/llama/dora`, folder, { recursive: true });
    const config = JSON.parse(readFileSync(`${GOLDEN}adapters/llama/dora/adapter_config.json`, 'utf8')) as object;
    rmSync(join(folder, 'adapter_config.json'), { force: true });
    writeFileSync(
      join(folder, 'adapter_config.json'),
      JSON.stringify({ ...config, base_model_name_or_path: `${GOLDEN}models/llama` }),
    );
    const url = await startServer(t, ['--model', `merged=${folder}`, '--log-level', 'error']);
    const { json } = await invoke(url, { inputs: text });
    assert.deepEqual(ids(json), golden.adapters.dora!.prompts!.p0!.greedy);
  });

  test('what cannot be merged ends the start with one line and exit code 2', async () => {
    const run = (merge: string) =>
      new Promise<{ code: number; stderr: string }>((resolve) => {
        const args = [MAIN, 'serve', '--port', '0', ...MODEL, '--merge', merge];
        execFile(process.execPath, args, (error, _, stderr) => resolve({ code: Number(error?.code), stderr }));
      });
    for (const [merge, wanted] of [
      ['nothing-there', /there is no adapter "nothing-there"/],
      ['qv-r4:x', /must be NAME or NAME:WEIGHT/],
      ['dora:0.5', /dora cannot be merged: it uses dora/],
      ['alora', /cannot be merged/],
    ] as const) {
      const { code, stderr } = await run(merge);
      assert.equal(code, 2, merge);
      assert.match(stderr, wanted);
      assert.equal(stderr.trim().split('\n').length, 1, stderr);
    }
  });
});
