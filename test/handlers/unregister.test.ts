/** A model with a handler goes while its requests run. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { spawnServer, startServer } from '../rest/served.js';

const DEMO = fileURLToPath(new URL('../../models/demo', import.meta.url));

/** Waits for `release`, then generates with an adapter; `beats` tells over a file that the thread still runs. */
const HANDLER = `
import { appendFileSync, existsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
let calls = 0;
export async function handle(input, context) {
  const file = (name) => path.join(context.modelDir, name);
  const { mode, inputs } = input.getAsJson();
  setInterval(() => appendFileSync(file('beats'), '.'), 10);
  if (mode === 'hang') { writeFileSync(file('hanging'), ''); await new Promise(() => {}); }
  const generate = async () => {
    const [result] = await context.generate({ inputs, adapter: 'pirate', parameters: { maxNewTokens: 4 } });
    return result.text;
  };
  const released = async () => { while (!existsSync(file('release'))) await new Promise((go) => setTimeout(go, 5)); };
  if (mode !== 'stream') { writeFileSync(file('waiting'), ''); await released(); return generate(); }
  return (async function* () { yield 'begun '; await released(); yield await generate(); })();
}`;

/** Tells over a file which adapters it was told of. */
const LISTENER = `
import { appendFileSync } from 'node:fs';
import path from 'node:path';
const note = (what) => (input, context) =>
  appendFileSync(path.join(context.modelDir, 'told'), what + ' ' + input.getProperty('name') + '\\n');
export const handle = () => 'x';
export const registerAdapter = note('register');
export const unregisterAdapter = note('unregister');`;

/** A model store with the handler, and the flags to serve it. */
function modelStore(t: TestContext, grace: string, handler = HANDLER): { dir: string; flags: string[] } {
  const store = mkdtempSync(path.join(tmpdir(), 'loramux-unregister-'));
  t.after(() => rmSync(store, { recursive: true, force: true }));
  const dir = path.join(store, 'custom');
  mkdirSync(dir);
  writeFileSync(path.join(dir, 'handler.mjs'), handler);
  writeFileSync(path.join(dir, 'serving.properties'), `option.entryPoint=handler.mjs\noption.model_id=${DEMO}\n`);
  const flags = ['--log-level', 'error', '--grace-ms', grace, '--model-store', store, '--load-models', 'NONE'];
  return { dir, flags: [...flags, '--model', `base=${DEMO}`] };
}

/** Requests to the model of the handler. */
const callers = (url: string) => ({
  register: () => fetch(`${url}/models?url=custom&model_name=custom`, { method: 'POST' }),
  ask: (mode: string) =>
    fetch(`${url}/predictions/custom`, { method: 'POST', body: JSON.stringify({ mode, inputs: 'a' }) }),
});

async function served(t: TestContext, grace: string) {
  const { dir, flags } = modelStore(t, grace);
  const url = await startServer(t, flags);
  const { register, ask } = callers(url);
  assert.equal((await register()).status, 200);
  return { url, dir, ask, register };
}

const there = (file: string) => import('node:fs').then(({ existsSync }) => existsSync(file));
async function until(file: string): Promise<void> {
  while (!(await there(file))) await new Promise((go) => setTimeout(go, 5));
}

/** Engines that run, by the models that stand for them. */
async function engines(url: string): Promise<string[]> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return [...text.matchAll(/^loramux_engine_up\{model="([^"]+)"\} 1$/gm)].map(([, name]) => name!);
}

/** True once the thread of the handler writes no more. */
async function silent(dir: string): Promise<boolean> {
  const { statSync } = await import('node:fs');
  const size = () => statSync(path.join(dir, 'beats')).size;
  const before = size();
  await new Promise((go) => setTimeout(go, 60));
  return size() === before;
}

test('what a handler answers is finished, with its adapters, before its model goes', async (t) => {
  const { url, dir, ask, register } = await served(t, '60000');
  const whole = ask('whole');
  const stream = await ask('stream');
  await until(path.join(dir, 'waiting'));
  const gone = fetch(`${url}/models/custom`, { method: 'DELETE' });
  while ((await fetch(`${url}/models/custom`)).status !== 404);
  assert.equal((await ask('whole')).status, 404, 'new requests do not find it');
  assert.equal((await fetch(`${url}/models/custom/adapters`)).status, 404);
  const names = async () =>
    ((await (await fetch(`${url}/models`)).json()) as { models: { modelName: string }[] }).models;
  assert.deepEqual(
    (await names()).map(({ modelName }) => modelName),
    ['base'],
  );
  const again = register();
  writeFileSync(path.join(dir, 'release'), '');
  const answer = await whole;
  assert.equal(answer.status, 200);
  const text = await answer.text();
  assert.equal(await stream.text(), `begun ${text}`);
  assert.equal((await gone).status, 200);
  assert.equal((await again).status, 200, 'the name is free again, once the former model has gone');
  // Its adapters were unregistered with it, and stay away until they are registered again.
  const pirate = new URLSearchParams({ name: 'pirate', src: `${DEMO}/adapters/pirate` });
  await fetch(`${url}/models/custom/adapters?${pirate}`, { method: 'POST' });
  assert.equal(await (await ask('whole')).text(), text);
  assert.equal((await fetch(`${url}/models/custom`, { method: 'DELETE' })).status, 200);
  assert.ok(await silent(dir), 'the thread has ended');
  assert.deepEqual(await engines(url), ['base']);
});

test('a handler that does not end is ended after the grace time, and its request says why', async (t) => {
  const { url, dir, ask } = await served(t, '200');
  const hanging = ask('hang');
  await until(path.join(dir, 'hanging'));
  assert.equal((await fetch(`${url}/models/custom`, { method: 'DELETE' })).status, 200);
  const answer = await hanging;
  const { message, reason } = (await answer.json()) as { message: string; reason: string };
  assert.deepEqual([answer.status, reason], [404, 'MODEL_NOT_FOUND']);
  assert.match(message, /model "custom" was unregistered, and its handler did not answer within 200 ms/);
  assert.ok(await silent(dir), 'the thread has ended');
  assert.equal((await fetch(`${url}/models/custom`)).status, 404);
  assert.deepEqual(await engines(url), ['base']);
});

test('a kill while a handler answers for a model that goes leaves nothing of its adapters', async (t) => {
  const { dir, flags } = modelStore(t, '60000');
  const state = mkdtempSync(path.join(tmpdir(), 'loramux-unregister-state-'));
  t.after(() => rmSync(state, { recursive: true, force: true }));
  const all = [...flags, '--state-dir', state];
  const first = await spawnServer(all);
  const before = callers(first.url);
  assert.equal((await before.register()).status, 200);
  const own = new URLSearchParams({ name: 'own', src: `${DEMO}/adapters/pirate` });
  const added = await fetch(`${first.url}/models/custom/adapters?${own}`, { method: 'POST' });
  assert.equal(added.status, 200, await added.text());
  const answer = before.ask('whole').catch(() => undefined);
  await until(path.join(dir, 'waiting'));
  const gone = fetch(`${first.url}/models/custom`, { method: 'DELETE' }).catch(() => undefined);
  while ((await fetch(`${first.url}/models/custom`)).status !== 404);
  await first.kill();
  await Promise.all([answer, gone]);

  const url = await startServer(t, all);
  assert.equal((await fetch(`${url}/models/custom`)).status, 404, 'it was unregistered');
  assert.equal((await callers(url).register()).status, 200);
  const { adapters } = (await (await fetch(`${url}/models/custom/adapters`)).json()) as {
    adapters: { name: string }[];
  };
  assert.ok(adapters.length > 0, 'those of its folder are there');
  assert.ok(!adapters.some(({ name }) => name === 'own'), 'what was registered for the model that went is gone');
});

test('a deletion that is refused leaves the adapter to the handler', async (t) => {
  const { dir, flags } = modelStore(t, '60000', LISTENER);
  const url = await startServer(t, flags);
  assert.equal((await callers(url).register()).status, 200);
  const call = async (method: string, place: string) =>
    (await fetch(`${url}/models/custom/${place}`, { method })).status;
  const told = () => readFileSync(path.join(dir, 'told'), 'utf8').trim().split('\n').slice(-2);
  assert.equal(await call('PUT', 'aliases/live?adapter=pirate'), 200);
  assert.equal(await call('DELETE', 'adapters/pirate'), 409);
  assert.equal(await call('GET', 'adapters/pirate'), 200);
  assert.notEqual(told().at(-1), 'unregister pirate');
  assert.equal(await call('DELETE', `adapters/shout?expected_digest=${'0'.repeat(64)}`), 409);
  assert.notEqual(told().at(-1), 'unregister shout');
  assert.equal(await call('DELETE', 'aliases/live'), 200);
  assert.equal(await call('DELETE', 'adapters/pirate'), 200);
  assert.equal(told().at(-1), 'unregister pirate');
});
