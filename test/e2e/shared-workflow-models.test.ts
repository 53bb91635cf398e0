/** Workflows of the start, from a file and from a folder, that share a model. */
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { GOLDEN } from '../engine/golden-model.js';
import { startServer } from '../rest/served.js';

const DEMO = fileURLToPath(new URL('../../models/demo', import.meta.url));

interface Answer {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: answers of every route
  readonly json: any;
}

async function ask(url: string, method = 'GET', body?: object): Promise<Answer> {
  const init = body && { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } };
  const answer = await fetch(url, { method, ...init });
  return { status: answer.status, json: await answer.json() };
}

/** Models that stand for the engines that run. */
async function engines(url: string): Promise<string[]> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return [...text.matchAll(/^loramux_engine_up\{model="([^"]+)"\} 1$/gm)].map(([, name]) => name!).sort();
}

test('one model is loaded for all of them, stays while one is left, and goes with the last', async (t) => {
  const dir = mkdtempSync(path.join(tmpdir(), 'loramux-shared-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  cpSync(DEMO, path.join(dir, 'base'), { recursive: true });
  mkdirSync(path.join(dir, 'folder'));
  const definition = (name: string, adapter: string, base: string) => ({
    name,
    models: { m: base },
    configs: { adapters: { [adapter]: { model: 'm', src: `${base}/adapters/${adapter}` } } },
    workflow: { out: ['adapter', adapter, 'in'] },
  });
  const file = path.join(dir, 'one.json');
  writeFileSync(file, JSON.stringify(definition('one', 'pirate', '{model_dir}/base')));
  const yaml =
    'name: two\nmodels: {m: ../base}\nconfigs:\n  adapters:\n    french: {model: m, src: ../base/adapters/french}\n' +
    'workflow:\n  out: [adapter, french, in]\n';
  writeFileSync(path.join(dir, 'folder', 'workflow.yml'), yaml);
  const other = `${GOLDEN}models/llama`;
  const flags = ['--log-level', 'error', '--allow-path', other, '--allow-path', dir];
  const url = await startServer(t, [...flags, '--workflow', file, '--workflow', path.join(dir, 'folder')]);
  const answerOf = (name: string) =>
    ask(`${url}/predictions/${name}`, 'POST', { inputs: 'How is the weather', parameters: { max_new_tokens: 6 } });

  assert.deepEqual(await engines(url), ['m']);
  const [model] = (await ask(`${url}/models/m`)).json;
  assert.equal(model.models.length, 1);
  const [one, two] = await Promise.all([answerOf('one'), answerOf('two')]);
  assert.deepEqual([one.status, two.status], [200, 200]);
  assert.notDeepEqual(one.json, two.json, 'each has its own adapter');

  // The same local name for another model is another model.
  assert.equal(
    (await ask(`${url}/workflows`, 'POST', { name: 'three', models: { m: other }, workflow: { out: ['m', 'in'] } }))
      .status,
    200,
  );
  assert.deepEqual(await engines(url), ['m', 'three:m']);
  assert.equal((await ask(`${url}/workflows/three`, 'DELETE')).status, 200);
  assert.deepEqual(await engines(url), ['m']);

  // One goes: the other answers as before. It comes back while the model is there.
  assert.equal((await ask(`${url}/workflows/one`, 'DELETE')).status, 200);
  assert.equal((await answerOf('one')).status, 404);
  assert.deepEqual(await answerOf('two'), two);
  const again = definition('one', 'pirate', path.join(dir, 'base'));
  assert.equal((await ask(`${url}/workflows`, 'POST', again)).status, 200);
  assert.deepEqual(await answerOf('one'), one);
  assert.deepEqual(await engines(url), ['m']);

  for (const name of ['one', 'two']) {
    assert.equal((await ask(`${url}/models/m`)).status, 200, `before ${name} goes`);
    assert.equal((await ask(`${url}/workflows/${name}`, 'DELETE')).status, 200);
  }
  assert.equal((await ask(`${url}/models/m`)).status, 404);
  assert.deepEqual(await engines(url), []);
});
