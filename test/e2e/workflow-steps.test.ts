/** What requests to workflows are told before the first step, and which steps they wait for, on the real server. */
import assert from 'node:assert/strict';
import { cpSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { postJson } from '../rest/http.js';
import { startServer } from '../rest/served.js';

const DEMO = fileURLToPath(new URL('../../models/demo', import.meta.url));

/** A function that waits until the file `release` is there, and leaves `waiting` while it does; `over` when it is called off. */
const WAIT = `
import { existsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
export async function handle(input, { modelDir, signal }) {
  const file = (name) => path.join(modelDir, name);
  signal.addEventListener('abort', () => writeFileSync(file('over'), ''));
  writeFileSync(file('waiting'), '');
  while (!existsSync(file('release'))) await new Promise((go) => setTimeout(go, 5));
  return input.getAsString();
}`;

async function served(t: TestContext) {
  const dir = mkdtempSync(path.join(tmpdir(), 'loramux-steps-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  writeFileSync(path.join(dir, 'wait.mjs'), WAIT);
  /** A definition with an adapter of that folder, which is read when it is used. */
  const through = (adapter: string) => {
    cpSync(path.join(DEMO, 'adapters/pirate'), path.join(dir, adapter), { recursive: true });
    const options = { preload: 'false' };
    return { configs: { adapters: { [adapter]: { model: 'm', src: path.join(dir, adapter), options } } } };
  };
  const definitions = {
    held: { models: { m: 'demo' }, functions: { wait: 'wait.mjs' }, workflow: { out: ['m', ['wait', 'in']] } },
    chain: { models: { m: 'demo' }, workflow: { out: ['m', ['m', 'in']] } },
    handled: { ...through('loud'), workflow: { out: ['adapter', 'loud', ['m', 'in']] } },
    broken: { ...through('torn'), workflow: { torn: ['adapter', 'torn', ['m', 'in']], out: ['m', 'torn'] } },
  };
  const files = Object.entries(definitions).flatMap(([name, definition]) => {
    const file = path.join(dir, `${name}.json`);
    writeFileSync(file, JSON.stringify({ name, ...definition, models: { m: DEMO } }));
    return ['--workflow', file];
  });
  writeFileSync(path.join(dir, 'loud/handler.mjs'), 'export const handle = () => "loud";');
  const flags = ['--log-level', 'error', '--model', `demo=${DEMO}`, '--allow-path', dir, '--adapter-handlers', dir];
  const url = await startServer(t, [...flags, ...files]);
  writeFileSync(path.join(dir, 'torn/adapter_model.safetensors'), 'torn');
  return { url, file: (name: string) => path.join(dir, name) };
}

const request = { inputs: 'How is the weather', adapters: 'pirate', parameters: { max_new_tokens: 6 } };

test('an adapter that is not registered is told before the first step, also where only the last would use it', async (t) => {
  const { url } = await served(t);
  for (const stream of [false, true]) {
    const refused = await postJson(`${url}/predictions/chain`, { ...request, adapters: 'pirat', stream });
    assert.equal(refused.status, 424);
    assert.match(((await refused.json()) as { message: string }).message, /"pirat" is not registered.*"pirate"/);
  }
  const metrics = await (await fetch(`${url}/metrics`)).text();
  assert.doesNotMatch(metrics, /^loramux_generated_tokens_total\{.*\} [1-9]/m, 'nothing was generated');
  assert.equal((await postJson(`${url}/predictions/chain`, request)).status, 200);
});

test('what a later step would be refused for is told before the first step', async (t) => {
  const { url } = await served(t);
  const parameters = { max_new_tokens: 6 };
  for (const [workflow, more, reason, message] of [
    ['handled', {}, 'UNIMPLEMENTED', /^adapter "loud" is answered by its handler/],
    ['handled', { stream: true }, 'UNIMPLEMENTED', /^adapter "loud" is answered by its handler/],
    ['broken', {}, 'ADAPTER_FAILED', /^adapter "torn" failed to load/],
    [
      'chain',
      { parameters: { ...parameters, n: 129 } },
      'INVALID_REQUEST',
      /^parameters\.n: must be an integer between/,
    ],
    [
      'chain',
      { parameters: { ...parameters, n: 3, best_of: 2 } },
      'INVALID_REQUEST',
      /^parameters\.best_of: must be at least n/,
    ],
    [
      'chain',
      { parameters: { ...parameters, best_of: 2 }, stream: true },
      'INVALID_REQUEST',
      /^parameters\.best_of: must equal n/,
    ],
  ] as const) {
    const refused = await postJson(`${url}/predictions/${workflow}`, {
      inputs: 'How is the weather',
      parameters,
      ...more,
    });
    const told = (await refused.json()) as { reason: string; message: string };
    assert.equal(told.reason, reason);
    assert.match(told.message, message);
  }
  const metrics = await (await fetch(`${url}/metrics`)).text();
  assert.doesNotMatch(metrics, /^loramux_generated_tokens_total\{.*\} [1-9]/m, 'nothing was generated');
});

test('a request for a token does not wait for the steps before the last', async (t) => {
  const { url, file } = await served(t);
  for (const stream of [false, true]) {
    const accepted = await postJson(`${url}/predictions/held`, { ...request, stream }, { 'x-synchronous': 'false' });
    assert.equal(accepted.status, 200);
    const headers = { 'x-starting-token': accepted.headers.get('x-next-token')! };
    const fetched = () => fetch(`${url}/predictions/held`, { method: 'POST', headers });
    while (!existsSync(file('waiting'))) await sleep(5);
    assert.equal((await fetched()).status, 202);
    writeFileSync(file('release'), '');
    while ((await fetched()).headers.has('x-next-token')) await sleep(5);
    const sync = await postJson(`${url}/predictions/demo`, { ...request, stream });
    assert.equal(await (await fetched()).text(), await sync.text());
    for (const name of ['waiting', 'release']) rmSync(file(name));
  }
});

test('a client that leaves its stream in an earlier step ends that step', async (t) => {
  const { url, file } = await served(t);
  const left = new AbortController();
  const body = JSON.stringify({ ...request, stream: true });
  const asked = fetch(`${url}/predictions/held`, { method: 'POST', body, signal: left.signal });
  while (!existsSync(file('waiting'))) await sleep(5);
  left.abort();
  await assert.rejects(asked, { name: 'AbortError' });
  while (!existsSync(file('over'))) await sleep(5);
});

test('a version that a workflow or a model does not have is told as that', async (t) => {
  const { url } = await served(t);
  for (const [path, reason, message] of [
    ['/predictions/chain/9', 'WORKFLOW_NOT_FOUND', 'no workflow "chain" has version "9"; versions: none'],
    ['/invocations?model_name=chain&model_version=9', 'WORKFLOW_NOT_FOUND', 'no workflow "chain" has version "9"; .*'],
    ['/predictions/demo/9', 'MODEL_NOT_FOUND', 'model demo has no version 9; leave the version out'],
    ['/predictions/chian', 'MODEL_NOT_FOUND', 'model "chian" is not served; .*'],
  ] as const) {
    const refused = await postJson(url + path, request);
    assert.equal(refused.status, 404);
    const told = (await refused.json()) as { type: string; reason: string; message: string };
    assert.deepEqual([told.type, told.reason], ['ModelNotFoundException', reason]);
    assert.match(told.message, new RegExp(`^${message}$`));
  }
});
