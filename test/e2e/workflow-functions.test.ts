/** Workflows with functions of their own, on the real server. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { lines } from '../rest/http.js';
import { startServer } from '../rest/served.js';

const DEMO = fileURLToPath(new URL('../../models/demo', import.meta.url));

const FILES = {
  'pre.ts': `
    import { defineHandler } from '@loramux/sdk/handler';
    export default defineHandler({ handle: (input) => input.getAsString()!.trim() });`,
  'merge.mjs': `
    export function handle(input, { properties }) {
      const texts = input.getContent().map(({ value }) => Buffer.from(value).toString());
      return texts.join(properties.sep);
    }`,
  'moody.mjs': `
    import { existsSync, writeFileSync } from 'node:fs';
    import path from 'node:path';
    export async function handle(input, { modelDir }) {
      const text = input.getAsString();
      const at = input.getProperty('index');
      if (text.startsWith('throw')) throw new Error('not this: ' + at);
      if (text.startsWith('hang')) for (;;) {}
      if (text.startsWith('nothing')) return '';
      if (text.startsWith('wait')) {
        writeFileSync(path.join(modelDir, 'waiting'), '');
        while (!existsSync(path.join(modelDir, 'release'))) await new Promise((go) => setTimeout(go, 5));
      }
      return text;
    }`,
  'workflow.yaml': `
name: both
models:
  m: ${DEMO}
functions:
  pre: ./pre.ts
  merge: merge.mjs
configs:
  adapters:
    pirate: {model: m, src: ${DEMO}/adapters/pirate}
    french: {model: m, src: ${DEMO}/adapters/french}
  merge: {sep: " | "}
workflow:
  clean: [pre, in]
  first: [adapter, pirate, clean]
  second: [adapter, french, clean]
  out: [merge, first, second]
`,
  'moody.json': JSON.stringify({
    name: 'moody',
    models: { m: DEMO },
    functions: { moody: 'moody.mjs' },
    workflow: { out: ['m', ['moody', 'in']] },
  }),
};

interface Answer {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: answers of every route
  readonly json: any;
}

async function ask(url: string, method = 'GET', body?: object): Promise<Answer> {
  const answer = await fetch(url, {
    method,
    ...(body && { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }),
  });
  return { status: answer.status, json: await answer.json() };
}

function folder(t: TestContext): string {
  const dir = mkdtempSync(path.join(tmpdir(), 'loramux-functions-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  for (const [name, text] of Object.entries(FILES)) writeFileSync(path.join(dir, name), text);
  return dir;
}

const short = { parameters: { max_new_tokens: 6 } };
const model = ['--log-level', 'error', '--model', `base=${DEMO}`];

test('functions prepare and merge what models answer, whole and as a stream', async (t) => {
  const dir = folder(t);
  const url = await startServer(t, [...model, '--workflow', dir]);
  const [info] = (await ask(`${url}/workflows/both`)).json;
  assert.deepEqual(info.calls, ['function pre', 'adapter pirate of m', 'adapter french of m', 'function merge']);
  const texts = async (adapters: string) =>
    (await ask(`${url}/predictions/base`, 'POST', { inputs: ['How is', 'Good'], adapters, ...short })).json.map(
      ({ generated_text }: { generated_text: string }) => generated_text,
    ) as string[];
  const [pirate, french] = await Promise.all([texts('pirate'), texts('french')]);
  assert.notDeepEqual(pirate, french);
  const wanted = pirate.map((text, at) => ({ generated_text: `${text} | ${french[at]}` }));
  const both = (body: object) => ask(`${url}/predictions/both`, 'POST', body);
  assert.deepEqual((await both({ inputs: ['  How is', 'Good '], ...short })).json, wanted);
  const body = JSON.stringify({ inputs: '  How is', stream: true, ...short });
  const stream = await (await fetch(`${url}/predictions/both`, { method: 'POST', body })).text();
  assert.equal(lines(stream).at(-1)!.generated_text, wanted[0]!.generated_text);
  const rpc = await ask(`${url}/loramux.v1.InferenceService/Predict`, 'POST', {
    model: 'both',
    inputs: [{ text: 'How is' }],
    parameters: { maxNewTokens: 6 },
  });
  assert.equal(rpc.json.results?.[0].text, wanted[0]!.generated_text, JSON.stringify(rpc.json));
  const several = await both({ inputs: 'a', parameters: { n: 2, temperature: 1 } });
  assert.deepEqual([several.status, several.json.reason], [400, 'INVALID_REQUEST']);
  assert.match(several.json.message, /n must be 1/);
  const other = await both({ inputs: 'a', adapters: 'pirate' });
  assert.equal(other.json.reason, 'CONFLICTING_ADAPTERS');
  const chat = await both({ messages: [{ role: 'user', content: 'a' }] });
  assert.match(
    chat.json.error?.message ?? chat.json.message,
    /begins with a function, which takes texts; input 0 is a chat/,
  );
});

test('a function that fails fails its request by name, and ends with its workflow', async (t) => {
  const dir = folder(t);
  const url = await startServer(t, [...model, '--handler-ms', '500', '--workflow', path.join(dir, 'moody.json')]);
  const moody = (inputs: string | string[]) => ask(`${url}/predictions/moody`, 'POST', { inputs, ...short });
  const thrown = await moody(['fine', 'throw']);
  assert.deepEqual([thrown.status, thrown.json.message], [424, 'function moody of workflow moody: not this: 1']);
  const empty = await moody('nothing');
  assert.match(
    empty.json.message,
    /workflow\.out\[1\] answered input 0 with an empty text, which workflow\.out cannot/,
  );
  assert.equal((await moody('hang')).json.reason, 'HANDLER_TIMEOUT');
  assert.equal((await moody('fine')).status, 200);
  // Its thread finishes what it answers before it goes; what comes later finds nothing.
  const waiting = moody('wait');
  while (!existsSync(path.join(dir, 'waiting'))) await sleep(5);
  const gone = ask(`${url}/workflows/moody`, 'DELETE');
  while ((await moody('fine')).status !== 404);
  writeFileSync(path.join(dir, 'release'), '');
  assert.equal((await waiting).status, 200);
  assert.equal((await gone).status, 200);
});

test('functions are run only from folders of the operator', async (t) => {
  const [dir, store] = [folder(t), folder(t)];
  rmSync(path.join(store, 'workflow.yaml'));
  const tenant = path.join(store, 'm', 'adapters', 'tenant');
  mkdirSync(tenant, { recursive: true });
  writeFileSync(path.join(tenant, 'f.mjs'), FILES['merge.mjs']);
  const url = await startServer(t, [...model, '--allow-path', dir, '--model-store', store, '--load-models', 'NONE']);
  const byUrl = (file: string) => ask(`${url}/workflows?${new URLSearchParams({ url: file })}`, 'POST');
  const body = (module: string) => ({
    name: 'own',
    models: { m: 'base' },
    functions: { f: module },
    workflow: { out: ['f', ['m', 'in']] },
  });
  for (const refused of [
    await byUrl(path.join(dir, 'workflow.yaml')),
    await ask(`${url}/workflows`, 'POST', body(path.join(dir, 'merge.mjs'))),
    await ask(`${url}/workflows`, 'POST', body(path.join(tenant, 'f.mjs'))),
  ]) {
    assert.deepEqual([refused.status, refused.json.reason], [400, 'MODEL_SOURCE_FORBIDDEN']);
    assert.match(refused.json.message, /is code, which is run only from folders of workflows and models of the start/);
  }
  const broken = path.join(store, 'broken.mjs');
  writeFileSync(broken, 'export const other = 1;');
  const unusable = await ask(`${url}/workflows`, 'POST', body(broken));
  assert.deepEqual([unusable.status, unusable.json.reason], [400, 'WORKFLOW_INVALID']);
  assert.match(unusable.json.message, /functions\.f .*exports no function handle/);
  assert.deepEqual((await ask(`${url}/workflows/own`)).status, 404);
  assert.equal((await byUrl(path.join(store, 'moody.json'))).status, 200);
  assert.equal((await ask(`${url}/workflows`, 'POST', body(path.join(store, 'merge.mjs')))).status, 200);
  const answer = await ask(`${url}/predictions/own`, 'POST', { inputs: 'a', ...short });
  const plain = await ask(`${url}/predictions/base`, 'POST', { inputs: 'a', ...short });
  assert.deepEqual(answer, plain);
});

test('several answers to each input come of its own draft', async (t) => {
  const url = await startServer(t, model);
  const definition = { name: 'chain', models: { m: 'base' }, workflow: { out: ['m', ['m', 'in']] } };
  assert.equal((await ask(`${url}/workflows`, 'POST', definition)).status, 200);
  const parameters = { max_new_tokens: 6, temperature: 1, seed: 7, n: 2, details: true };
  const base = (inputs: string[], n: number) =>
    ask(`${url}/predictions/base`, 'POST', { inputs, parameters: { ...parameters, n } });
  const texts = ({ json }: Answer) =>
    json.map((one: { generated_text: string; details: { best_of_sequences?: { generated_text: string }[] } }) => [
      one.generated_text,
      ...(one.details.best_of_sequences ?? []).map(({ generated_text }) => generated_text),
    ]) as string[][];
  const drafts = texts(await base(['How is', 'Good'], 1)).map(([text]) => text!);
  const wanted = texts(await base(drafts, 2));
  const chained = await ask(`${url}/predictions/chain`, 'POST', { inputs: ['How is', 'Good'], parameters });
  assert.deepEqual(texts(chained), wanted);
});
