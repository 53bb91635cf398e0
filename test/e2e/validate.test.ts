/** Validation without loading, on every surface, over the golden adapters: the good ones and those that must be refused. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { LoramuxClient } from '../../sdk/index.js';
import { GOLDEN, type GoldenFile } from '../engine/golden-model.js';
import { startServer } from '../rest/served.js';
import { sha256, tarGz } from '../sources/archives.js';
import { fileServer } from '../sources/file-server.js';
import { hubDouble } from '../sources/hub-double.js';

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

const dir = mkdtempSync(path.join(tmpdir(), 'loramux-validate-'));
after(() => rmSync(dir, { recursive: true, force: true }));

/** A model folder with a line of properties. */
function modelWith(line: string): string {
  const folder = mkdtempSync(path.join(dir, 'model-'));
  writeFileSync(path.join(folder, 'serving.properties'), `option.model_id=${GOLDEN}models/llama\n${line}\n`);
  return folder;
}

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

  /** `loramux validate`, with nothing of this machine's caches; `more`: added to the environment. */
  const run = (source: string, model = `${GOLDEN}models/llama`, flags: readonly string[] = [], more = {}) =>
    new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
      const args = [MAIN, 'validate', '--model', model, ...flags, source];
      const env = { ...process.env, HF_HUB_CACHE: path.join(dir, 'no-hub-cache'), ...more };
      execFile(process.execPath, args, { env }, (error, stdout, stderr) =>
        resolve({ code: Number(error?.code ?? 0), stdout, stderr }),
      );
    });

  test('a model that takes smaller ranks only refuses, on every surface', async (t) => {
    const limited = modelWith('option.max_lora_rank=8');
    const adapter = `${GOLDEN}adapters/llama/mlp-r16`;
    const flags = ['--model', limited, '--allow-path', `${GOLDEN}adapters/llama`, '--log-level', 'error'];
    const url = await startServer(t, flags);
    const body = JSON.stringify({ src: adapter });
    const headers = { 'content-type': 'application/json' };
    const response = await fetch(`${url}/adapters/validate`, { method: 'POST', headers, body });
    const report = (await response.json()) as Report;
    const told = 'its rank is 16, and option.max_lora_rank is 8';
    assert.deepEqual([report.valid, report.reason, report.faults], [false, 'ADAPTER_UNSUPPORTED', [told]]);
    const printed = await run(adapter, limited);
    assert.equal(printed.code, 1);
    assert.ok(printed.stdout.includes(`fault: ${told}\nrefused: ADAPTER_UNSUPPORTED`), printed.stdout);
    const none = await run(adapter, modelWith('option.enable_lora=false'));
    assert.deepEqual([none.code, none.stdout], [2, '']);
    assert.match(none.stderr, /is served without LoRA/);
  });

  test('tells of variables that are no settings, as serve does, beside its report', async () => {
    const more = { LORAMUX_CACHEDIR: '/x', LORAMUX_MAX_BATCH: '8', XDG_CACHE_HOME: 'cache' };
    const { code, stdout, stderr } = await run(`${GOLDEN}adapters/llama/all-r8`, undefined, ['--json'], more);
    assert.deepEqual([code, (JSON.parse(stdout) as Report).valid], [0, true]);
    assert.deepEqual(stderr.trimEnd().split('\n'), [
      'loramux: LORAMUX_CACHEDIR is ignored: there is no such setting; near names: LORAMUX_CACHE_DIR',
      'loramux: XDG_CACHE_HOME=cache is ignored: it is no absolute path',
    ]);
  });

  test('model and adapter may be elsewhere', async (t) => {
    const hub = await hubDouble();
    const server = await fileServer();
    t.after(async () => {
      await hub.close();
      await server.close();
    });
    const filesOf = (folder: string, only: RegExp) =>
      readdirSync(folder)
        .filter((name) => only.test(name))
        .map((name) => [name, readFileSync(path.join(folder, name))] as const);
    const adapter = filesOf(`${GOLDEN}adapters/llama/all-r8`, /^adapter_/);
    hub.commit('team/base', Object.fromEntries(filesOf(`${GOLDEN}models/llama`, /\.(json|safetensors)$/)));
    hub.commit('team/sql', Object.fromEntries(adapter));
    const archive = tarGz(adapter.map(([name, body]) => ({ path: `a/${name}`, body })));
    server.files.set('/a.tgz', archive);
    const flags = ['--hub-endpoint', hub.endpoint, '--cache-dir', path.join(dir, 'cache')];
    const fromHub = await run('team/sql', 'team/base', flags);
    assert.equal(fromHub.code, 0, fromHub.stderr);
    const digest = /^digest [0-9a-f]{64}$/m.exec(fromHub.stdout)![0];
    const packed = await run(`${server.url}/a.tgz#sha256=${sha256(archive)}`, 'team/base', flags);
    assert.deepEqual([packed.code, packed.stdout.includes(digest)], [0, true], packed.stderr);
    const nowhere = await run('team/none', `${GOLDEN}models/llama`, flags);
    assert.equal(nowhere.code, 2);
    assert.match(nowhere.stderr, /team\/none/);
  });

  test('the command line prints the report and tells by its exit code', async () => {
    const good = await run(`${GOLDEN}adapters/llama/patterns`);
    assert.equal(good.code, 0);
    assert.match(good.stdout, /q_proj lora_A, rank \d, scaling [\d.]+\n[\s\S]*valid: every tensor is bound/);
    const bad = await run(`${GOLDEN}invalid/adapters/nan-weights`);
    assert.equal(bad.code, 1);
    assert.match(bad.stdout, /fault: .*NaN[\s\S]*refused: ADAPTER_INVALID/);
  });
});
