/** Handlers that adapters bring in their folders. */
import assert from 'node:assert/strict';
import { cpSync, existsSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { lines } from '../rest/http.js';
import { spawnServer, startServer } from '../rest/served.js';

const DEMO = fileURLToPath(new URL('../../models/demo', import.meta.url));

/** Says that it ran, then upper-cases what the model generates with the adapter. */
const SHOUT = (file = '') => `
import { writeFileSync } from 'node:fs';
import { defineHandler, HandlerError } from '@loramux/sdk/handler';
${file && `writeFileSync(${JSON.stringify(file)}, '');`}
let count = 0;
export default defineHandler({
  registerAdapter(input) {
    if (input.containsKey('refuse')) throw new HandlerError('not with ' + input.getAsString('refuse'));
  },
  async handle(input, context) {
    const body = input.getAsJson() ?? {};
    if (body.mode === 'count') return { count: ++count };
    if (body.mode === 'where') return { adapter: context.adapter, option: context.properties.tone ?? null };
    if (body.mode === 'hang') for (;;) {}
    if (body.mode === 'exit') process.exit(3);
    if (body.mode === 'forever') await new Promise(() => {});
    const request = { inputs: body.inputs, parameters: { maxNewTokens: 6 }, ...(body.with !== undefined && { adapter: body.with }) };
    if (!body.stream) return { shout: (await context.generate(request))[0].text.toUpperCase() };
    return (async function* () {
      for await (const event of context.stream(request)) if (event.type === 'delta') yield { shout: event.text.toUpperCase() };
    })();
  },
});`;

function scratch(t: TestContext): string {
  const dir = mkdtempSync(path.join(tmpdir(), 'loramux-adapter-handlers-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** An adapter's folder with a module. */
function bring(dir: string, name: string, code: string, file = 'handler.mjs', of = 'pirate'): string {
  const folder = path.join(dir, name);
  cpSync(path.join(DEMO, 'adapters', of), folder, { recursive: true });
  writeFileSync(path.join(folder, file), code);
  return folder;
}

const flags = (dir: string) => ['--log-level', 'error', '--model', `demo=${DEMO}`, '--allow-path', dir];

interface Answer {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: answers of every route
  readonly json: any;
}

async function ask(url: string, method = 'GET', body?: object, headers: Record<string, string> = {}): Promise<Answer> {
  const init = body && { body: JSON.stringify(body), headers: { 'content-type': 'application/json', ...headers } };
  const answer = await fetch(url, { method, ...init });
  return { status: answer.status, json: await answer.json() };
}

const register = (url: string, fields: Record<string, string>) =>
  ask(`${url}/models/demo/adapters?${new URLSearchParams(fields)}`, 'POST');

test('code of an adapter is told of and never run, unless its folder is allowed', async (t) => {
  const dir = scratch(t);
  const ran = path.join(dir, 'ran');
  const folder = bring(dir, 'loud', SHOUT(ran), 'handler.ts');
  const allowed = scratch(t);
  // A link to code elsewhere is no code of the folder.
  const linked = bring(allowed, 'linked', '', 'other.txt');
  symlinkSync(path.join(folder, 'handler.ts'), path.join(linked, 'handler.ts'));
  const url = await startServer(t, [...flags(dir), '--allow-path', allowed, '--adapter-handlers', allowed]);
  for (const [name, src, preload] of [
    ['loud', folder, 'true'],
    ['later', folder, 'false'],
    ['linked', linked, 'true'],
  ] as const) {
    assert.equal((await register(url, { name, src, preload })).status, 200);
    const { json } = await ask(`${url}/adapters/${name}?verbose=true`);
    assert.deepEqual(json.handler, { file: 'handler.ts', runs: false }, name);
    assert.match(json.warnings.at(-1), /^handler\.ts in its folder is not run: .*--adapter-handlers/);
    const rpc = await ask(`${url}/loramux.v1.AdapterService/GetAdapter`, 'POST', { name });
    assert.deepEqual(rpc.json.adapter.handler, { file: 'handler.ts', runs: false });
    const plain = await ask(`${url}/invocations`, 'POST', { inputs: 'How is the weather', adapters: name });
    assert.deepEqual([plain.status, typeof plain.json.generated_text], [200, 'string']);
  }
  assert.equal(existsSync(ran), false);
});

test('an allowed handler answers for its adapter, wherever a request names it, and for nothing else', async (t) => {
  const dir = scratch(t);
  const url = await startServer(t, [...flags(dir), '--adapter-handlers', dir]);
  const src = bring(dir, 'loud', SHOUT(), 'handler.ts');
  const registered = await register(url, { name: 'loud', src, tone: 'loud' });
  assert.deepEqual(registered, { status: 200, json: { status: 'Adapter loud registered' } });
  assert.deepEqual((await ask(`${url}/adapters/loud?verbose=true`)).json.handler, { file: 'handler.ts', runs: true });
  const inputs = 'How is the weather';
  const short = { parameters: { max_new_tokens: 6 } };
  const pirate = await ask(`${url}/invocations`, 'POST', { inputs, adapters: 'pirate', ...short });
  const base = await ask(`${url}/invocations`, 'POST', { inputs, ...short });
  const wanted = { shout: pirate.json.generated_text.toUpperCase() };
  assert.notEqual(wanted.shout, base.json.generated_text.toUpperCase());
  const post = (route: string, body: object, headers = {}) => ask(`${url}${route}`, 'POST', body, headers);
  assert.deepEqual((await post('/invocations', { inputs, adapters: 'loud' })).json, wanted);
  assert.deepEqual((await post('/predictions/demo?adapter=loud', { inputs })).json, wanted);
  assert.deepEqual((await post('/invocations', { inputs, model: 'loud' })).json, wanted);
  const identifier = { 'x-amzn-sagemaker-adapter-identifier': 'loud' };
  assert.deepEqual((await post('/invocations', { inputs }, identifier)).json, wanted);
  const attributes = { 'x-amzn-sagemaker-custom-attributes': 'adapter=loud' };
  assert.deepEqual((await post('/models/demo/invoke', { inputs, model: 'any' }, attributes)).json, wanted);
  // Bodies of its own are the handler's matter.
  assert.deepEqual((await post('/invocations', { mode: 'where', adapters: 'loud' })).json, {
    adapter: 'loud',
    option: 'loud',
  });
  assert.deepEqual((await post('/invocations', { inputs, adapters: 'loud', with: null })).json, {
    shout: base.json.generated_text.toUpperCase(),
  });
  const stolen = await post('/invocations', { inputs, adapters: 'loud', with: 'french' });
  assert.deepEqual([stolen.status, stolen.json.reason], [400, 'HANDLER_FAILED']);
  assert.match(stolen.json.message, /adapter "loud" generates with it or with the base model, and not with "french"/);
  const body = JSON.stringify({ inputs, adapters: 'loud', stream: true });
  const stream = await (await fetch(`${url}/invocations`, { method: 'POST', body })).text();
  assert.equal(
    lines(stream)
      .map(({ shout }) => shout)
      .join(''),
    wanted.shout,
  );

  for (const [asked, status, reason] of [
    [{ inputs: ['a', 'b'], adapters: ['loud', 'pirate'] }, 400, 'CONFLICTING_ADAPTERS'],
    [{ inputs: ['a', 'b'], adapters: ['loud', ''] }, 400, 'CONFLICTING_ADAPTERS'],
    [{ inputs: 'a', adapters: [{ name: 'loud', weight: 0.5 }] }, 400, 'INVALID_REQUEST'],
  ] as const) {
    const refused = await post('/invocations', asked);
    assert.deepEqual([refused.status, refused.json.reason], [status, reason], JSON.stringify(asked));
  }
  const rpc = await post('/loramux.v1.InferenceService/Predict', {
    inputs: [{ text: 'a', adapter: 'loud' }],
  });
  assert.equal(rpc.status, 501, JSON.stringify(rpc.json));

  // A workflow of the adapter is answered by its handler; one that goes on from it cannot be.
  const flow = new URLSearchParams({ template: 'adapter', adapter: 'tenant', url: src, model: 'demo' });
  const made = await ask(`${url}/workflows?${flow}`, 'POST');
  assert.equal(made.status, 200, JSON.stringify(made.json));
  assert.deepEqual((await post('/predictions/tenant', { inputs })).json, wanted);
  const definition = {
    name: 'chain',
    models: { m: 'demo' },
    configs: { adapters: { tenant: { model: 'm', src } } },
    workflow: { out: ['m', ['adapter', 'tenant', 'in']] },
  };
  assert.equal((await post('/workflows', definition)).status, 200);
  assert.deepEqual((await post('/predictions/chain', { inputs })).json.reason, 'UNIMPLEMENTED');

  const alias = await ask(`${url}/models/demo/aliases/voice`, 'PUT', { targets: [{ adapter: 'loud' }] });
  assert.equal(alias.status, 200);
  assert.deepEqual((await post('/invocations', { inputs, adapters: 'voice' })).json, wanted);
  const shares = { targets: [{ adapter: 'loud' }, { adapter: 'pirate' }] };
  await ask(`${url}/models/demo/aliases/voice`, 'PUT', shares);
  const shared = await post('/invocations', { inputs, adapters: 'voice' });
  assert.deepEqual([shared.status, shared.json.reason], [400, 'INVALID_REQUEST']);
});

test('what cannot be loaded, or refuses, registers nothing and changes nothing', async (t) => {
  const dir = scratch(t);
  const url = await startServer(t, [...flags(dir), '--adapter-handlers', dir]);
  const broken = bring(dir, 'broken', 'export const nothing = 1;');
  const good = bring(dir, 'good', SHOUT());
  const refused = await register(url, { name: 'x', src: broken });
  assert.deepEqual([refused.status, refused.json.reason], [424, 'ADAPTER_INVALID']);
  assert.match(refused.json.message, /handler\.mjs: .*exports no function handle/);
  const unwanted = await register(url, { name: 'x', src: good, refuse: 'me' });
  assert.deepEqual([unwanted.status, unwanted.json.message], [424, 'adapter "x": handler.mjs: not with me']);
  assert.equal((await ask(`${url}/adapters/x`)).status, 404);

  assert.equal((await register(url, { name: 'x', src: good })).status, 200);
  const shout = () => ask(`${url}/invocations`, 'POST', { inputs: 'a', adapters: 'x' });
  const before = await shout();
  for (const change of [`src=${broken}`, 'refuse=me']) {
    const update = await ask(`${url}/adapters/x/update?${change}`, 'POST');
    assert.deepEqual([update.status, update.json.reason], [424, 'ADAPTER_INVALID'], change);
    assert.deepEqual(await shout(), before);
  }
  // A new version brings new code, and one without code is answered by the server again.
  const newer = bring(dir, 'newer', 'export const handle = () => "newer";');
  assert.equal((await ask(`${url}/adapters/x/update?src=${newer}`, 'POST')).status, 200);
  const said = async () => (await fetch(`${url}/invocations?adapter=x`, { method: 'POST', body: '{}' })).text();
  assert.equal(await said(), 'newer');
  const plain = bring(dir, 'plain', '', 'notes.txt');
  assert.equal((await ask(`${url}/adapters/x/update?src=${plain}`, 'POST')).status, 200);
  assert.equal(typeof (await shout()).json.generated_text, 'string');
});

test('a hang or a crash fails that request alone, and threads are bounded', async (t) => {
  const dir = scratch(t);
  const limits = ['--adapter-handlers', dir, '--adapter-handler-threads', '2', '--handler-ms', '400'];
  const url = await startServer(t, [...flags(dir), ...limits]);
  for (const name of ['a', 'b', 'c']) {
    assert.equal((await register(url, { name, src: bring(dir, name, SHOUT()) })).status, 200, name);
  }
  const mode = (adapters: string, mode: string) => ask(`${url}/invocations`, 'POST', { adapters, mode });
  assert.deepEqual((await mode('c', 'count')).json, { count: 1 });
  const [hung, counted] = await Promise.all([mode('b', 'hang'), mode('c', 'count')]);
  assert.deepEqual([hung.status, hung.json.reason], [504, 'HANDLER_TIMEOUT']);
  assert.deepEqual(counted.json, { count: 2 }, "another adapter's thread goes on");
  assert.deepEqual((await mode('b', 'count')).json, { count: 1 }, 'its own is a new one');
  assert.equal((await mode('b', 'exit')).json.reason, 'HANDLER_CRASHED');
  assert.deepEqual((await mode('b', 'count')).json, { count: 1 });
  // The thread of c was not needed for longest: it makes room, and comes back.
  assert.deepEqual((await mode('a', 'count')).json, { count: 1 });
  assert.deepEqual((await mode('b', 'count')).json, { count: 2 });
  assert.deepEqual((await mode('c', 'count')).json, { count: 1 });
  const waiting = [mode('b', 'forever'), mode('c', 'forever')];
  const full = await mode('a', 'count');
  assert.deepEqual([full.status, full.json.reason], [503, 'QUEUE_FULL']);
  for (const late of await Promise.all(waiting)) assert.equal(late.json.reason, 'HANDLER_TIMEOUT');
  assert.deepEqual((await mode('a', 'count')).json, { count: 1 });
});

test('after a restart the handler answers again, and it goes with its adapter', async (t) => {
  const dir = scratch(t);
  const state = scratch(t);
  const all = [...flags(dir), '--adapter-handlers', dir, '--state-dir', state];
  const first = await spawnServer(all);
  t.after(first.stop);
  const src = bring(dir, 'loud', SHOUT());
  await register(first.url, { name: 'kept', src });
  const answer = await ask(`${first.url}/invocations`, 'POST', { inputs: 'a', adapters: 'kept' });
  assert.equal(typeof answer.json.shout, 'string');
  await first.kill();
  const url = await startServer(t, all);
  assert.deepEqual(await ask(`${url}/invocations`, 'POST', { inputs: 'a', adapters: 'kept' }), answer);
  assert.equal((await ask(`${url}/adapters/kept`, 'DELETE')).status, 200);
  const gone = await ask(`${url}/invocations`, 'POST', { inputs: 'a', adapters: 'kept' });
  assert.deepEqual([gone.status, gone.json.reason], [424, 'ADAPTER_NOT_REGISTERED']);
});

test('an adapter that is mended after it failed is answered by its handler from the first request on', async (t) => {
  const dir = scratch(t);
  const src = bring(dir, 'loud', SHOUT());
  const weights = path.join(src, 'adapter_model.safetensors');
  const aside = path.join(scratch(t), 'aside');
  renameSync(weights, aside);
  const url = await startServer(t, [...flags(dir), '--adapters', dir, '--adapter-handlers', dir]);
  const asked = () => ask(`${url}/invocations`, 'POST', { inputs: 'a', adapters: 'loud' });
  const failed = await asked();
  assert.deepEqual([failed.status, failed.json.reason], [424, 'ADAPTER_FAILED']);
  renameSync(aside, weights);
  const [one, other] = await Promise.all([asked(), asked()]);
  assert.equal(typeof one.json.shout, 'string', JSON.stringify(one.json));
  assert.deepEqual(one, other);
  assert.equal(
    (await ask(`${url}/loramux.v1.AdapterService/GetAdapter`, 'POST', { name: 'loud' })).json.adapter.state,
    'ADAPTER_STATE_READY',
  );
});
