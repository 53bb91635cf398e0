/** A GGUF file served over HTTP, with PEFT and GGUF adapters in one request: PyTorch's tokens. */
import assert from 'node:assert/strict';
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { GOLDEN, type GoldenFile } from '../engine/golden-model.js';
import { startServer } from '../rest/served.js';
import { FIXTURES } from './gguf-runner.js';

interface Answer {
  details: { tokens: { id: number }[] };
}

test('--model FILE.gguf serves the base and the adapters beside it', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'gguf-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const file = join(dir, 'tiny.gguf');
  copyFileSync(`${FIXTURES}base-llama.gguf`, file);
  mkdirSync(join(dir, 'adapters', 'alora'), { recursive: true });
  mkdirSync(join(dir, 'adapters', 'all-r8'));
  copyFileSync(`${FIXTURES}adapter-llama-alora.gguf`, join(dir, 'adapters', 'alora', 'adapter.gguf'));
  copyFileSync(`${FIXTURES}adapter-llama-all-r8.gguf`, join(dir, 'adapters', 'all-r8', 'adapter.gguf'));
  cpSync(`${GOLDEN}adapters/llama/dora`, join(dir, 'adapters', 'dora'), { recursive: true });
  const url = await startServer(t, ['--model', file, '--dtype', 'fp32', '--log-level', 'error', '--threads', '1']);

  const models = (await (await fetch(`${url}/models`)).json()) as { models: { modelName: string }[] };
  assert.deepEqual(
    models.models.map(({ modelName }) => modelName),
    ['tiny'],
  );
  const golden = JSON.parse(readFileSync(`${GOLDEN}golden/llama/golden.json`, 'utf8')) as GoldenFile;
  const { text } = golden.prompts.find(({ id }) => id === 'p0')!;
  const adapters = ['', 'alora', 'all-r8', 'dora'];
  const response = await fetch(`${url}/invocations`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      inputs: adapters.map(() => text),
      adapters,
      parameters: { max_new_tokens: 24, details: true, ignore_eos_token: true },
    }),
  });
  const body = await response.text();
  assert.equal(response.status, 200, body);
  for (const [i, answer] of (JSON.parse(body) as Answer[]).entries()) {
    const name = adapters[i]!;
    const wanted = name === '' ? golden.base : golden.adapters[name]!.prompts!;
    assert.deepEqual(
      answer.details.tokens.map(({ id }) => id),
      wanted.p0!.greedy,
      name,
    );
  }
});

test('a path that is no GGUF file and no folder is refused', async () => {
  const { resolveModelFolder } = await import('../../server/config/model-folder.js');
  assert.throws(
    () => resolveModelFolder('x=none.gguf', {} as never, tmpdir()),
    /--model x=none.gguf: there is no folder or .gguf file .*none.gguf/,
  );
});
