/** Validation without loading, on every surface, over the golden adapters: the good ones and those that must be refused. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { LoramuxClient } from '../../sdk/index.js';
import { GOLDEN, type GoldenFile } from '../engine/golden-model.js';
import { startServer } from '../rest/served.js';

interface Report {
  valid: boolean;
  reason?: string;
  faults: string[];
  tensors: { name: string; module: string; use: string; rank?: number }[];
  summary?: { digest: string; bytes: number };
}

const MAIN = fileURLToPath(new URL('../../bin/loramux.mjs', import.meta.url));
const invalid = JSON.parse(readFileSync(`${GOLDEN}invalid/index.json`, 'utf8')) as {
  cases: { case: string; path: string; base_model: string }[];
};

describe('validation', () => {
  test('reports every golden adapter of a model as a registration takes it, and loads nothing', async (t) => {
    const golden = JSON.parse(readFileSync(`${GOLDEN}golden/llama/golden.json`, 'utf8')) as GoldenFile;
    const url = await startServer(t, [
      ...['--model', `${GOLDEN}models/llama`, '--allow-path', `${GOLDEN}adapters/llama`, '--log-level', 'error'],
    ]);
    const client = new LoramuxClient({ baseUrl: url });
    for (const { path } of Object.values(golden.adapters)) {
      const report = await client.adapters.validate(`${GOLDEN}${path}`);
      assert.deepEqual([report.valid, report.faults], [true, []], path);
      assert.ok(
        report.tensors.length > 0 && report.tensors.every(({ module, use }) => module !== '' && use !== ''),
        path,
      );
      assert.match(report.digest, /^[0-9a-f]{64}$/);
      assert.ok(report.weightBytes > 0);
    }
    assert.equal((await client.adapters.list()).items.length, 0);
  });

  test('refuses each invalid golden adapter with the reason and the faults, and the server goes on', async (t) => {
    const url = await startServer(t, [
      ...['--model', `${GOLDEN}models/llama`, '--allow-path', `${GOLDEN}invalid/adapters`, '--log-level', 'error'],
    ]);
    const llama = invalid.cases.filter(({ base_model }) => base_model === 'llama');
    assert.ok(llama.length > 40);
    for (const { case: name, path } of llama) {
      const response = await fetch(`${url}/adapters/validate`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ src: `${GOLDEN}invalid/${path}` }),
      });
      const report = (await response.json()) as Report;
      assert.deepEqual([response.status, report.valid, report.summary], [200, false, undefined], name);
      assert.ok(report.faults.length > 0 && /^ADAPTER_/.test(report.reason!), name);
      const created = await fetch(`${url}/adapters`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ name, src: `${GOLDEN}invalid/${path}` }),
      });
      assert.equal(((await created.json()) as { reason: string }).reason, report.reason, name);
    }
    assert.deepEqual(await (await fetch(`${url}/adapters`)).json(), { adapters: [] });
    assert.equal((await fetch(`${url}/ping`)).status, 200);
  });

  test('the command line prints the report and tells by its exit code', async () => {
    const run = (folder: string) =>
      new Promise<{ code: number; stdout: string }>((resolve) => {
        const args = [MAIN, 'validate', '--model', `${GOLDEN}models/llama`, folder];
        execFile(process.execPath, args, (error, stdout) => resolve({ code: Number(error?.code ?? 0), stdout }));
      });
    const good = await run(`${GOLDEN}adapters/llama/patterns`);
    assert.equal(good.code, 0);
    assert.match(good.stdout, /q_proj lora_A, rank \d, scaling [\d.]+\n[\s\S]*valid: every tensor is bound/);
    const bad = await run(`${GOLDEN}invalid/adapters/nan-weights`);
    assert.equal(bad.code, 1);
    assert.match(bad.stdout, /fault: .*NaN[\s\S]*refused: ADAPTER_INVALID/);
  });
});
