/**
 * DJL Serving's guide to adapters, walked through from its first code block to its last on the real server: the model
 * folder, the management of adapters in both forms, every way to name an adapter in a call, and workflows.
 */
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { GOLDEN } from '../engine/golden-model.js';
import { startServer } from '../rest/served.js';

const MODEL = `${GOLDEN}models/llama`;
const ADAPTERS = `${GOLDEN}adapters/llama`;
const JSON_TYPE = { 'content-type': 'application/json' };

/** The guide's model folder: serving.properties, and one folder for each adapter in adapters/. */
function modelFolder(t: TestContext): { dir: string; model: string } {
  const dir = mkdtempSync(path.join(tmpdir(), 'loramux-guide-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const model = path.join(dir, 'mymodel');
  mkdirSync(model);
  writeFileSync(
    path.join(model, 'serving.properties'),
    `engine=Python\noption.model_id=${MODEL}\noption.enable_lora=true\noption.rolling_batch=disable\n`,
  );
  for (const [name, source] of Object.entries({ eng_alpaca: 'rslora', portuguese_alpaca: 'all-r8' })) {
    cpSync(path.join(ADAPTERS, source), path.join(model, 'adapters', name), { recursive: true });
  }
  return { dir, model };
}

interface Reply {
  readonly status: number;
  readonly type: string | null;
  readonly receipt: string | null;
  // biome-ignore lint/suspicious/noExplicitAny: bodies of every route
  readonly body: any;
}

const send = async (url: string, method: string, body?: unknown, headers: Record<string, string> = {}) => {
  const init = body === undefined ? { headers } : { headers: { ...JSON_TYPE, ...headers }, body: JSON.stringify(body) };
  const response = await fetch(url, { method, ...init });
  const text = await response.text();
  const type = response.headers.get('content-type');
  const receipt = response.headers.get('x-loramux-adapter');
  return { status: response.status, type, receipt, body: JSON.parse(text) } satisfies Reply;
};

/** The answer is this, as JSON, whole. */
function expect({ status, type, body }: Reply, wanted: number, json: unknown): void {
  assert.deepEqual({ status, body }, { status: wanted, body: json });
  assert.match(type!, /^application\/json/);
}

/** The answer is an error in the original's form, whose message names what was wrong. */
function refuse({ status, body }: Reply, wanted: number, type: string, message: RegExp): void {
  assert.equal(status, wanted, JSON.stringify(body));
  assert.deepEqual({ code: body.code, type: body.type }, { code: wanted, type });
  assert.match(body.message, message);
}

/** Names of the adapters that answered, by input. */
const answeredBy = ({ receipt }: Reply): string[] => receipt!.split(/, ?/).map((one) => one.split('@')[0]!);

test('the guide to adapters of DJL Serving, block by block', { timeout: 120_000 }, async (t) => {
  const { dir, model } = modelFolder(t);
  const flags = ['--log-level', 'error', '--allow-path', ADAPTERS, '--allow-path', dir, '--allow-path', MODEL];
  const url = await startServer(t, [...flags, '--model', model]);
  const src = (name: string): string => path.join(ADAPTERS, name);
  const query = (fields: Readonly<Record<string, string>>): string => `?${new URLSearchParams(fields)}`;
  const prompt = 'How is the weather';
  const parameters = { max_new_tokens: 8, ignore_eos_token: true };
  const call = (at: string, body: object, headers?: Record<string, string>) =>
    send(`${url}${at}`, 'POST', { parameters, ...body }, headers);

  await t.test('the adapters folder beside serving.properties is registered at the start', async () => {
    expect(await send(`${url}/models/mymodel/adapters`, 'GET'), 200, {
      adapters: ['eng_alpaca', 'portuguese_alpaca'].map((name) => ({
        name,
        src: path.join(model, 'adapters', name),
        preload: true,
        pin: false,
      })),
    });
  });

  for (const base of ['/models/mymodel/adapters', '/adapters']) {
    await t.test(`management at ${base}`, async () => {
      const at = `${url}${base}`;
      const one = { name: 'a1', src: src('qv-r4'), preload: true, pin: false };
      // Register.
      expect(await send(at + query({ name: 'a1', src: one.src }), 'POST'), 200, { status: 'Adapter a1 registered' });
      refuse(
        await send(at + query({ name: 'a1', src: one.src }), 'POST'),
        409,
        'IllegalArgumentException',
        /a1.*registered/,
      );
      refuse(await send(at + query({ name: 'a2' }), 'POST'), 400, 'BadRequestException', /src/);
      refuse(await send(at + query({ src: one.src }), 'POST'), 400, 'BadRequestException', /name/);
      refuse(await send(at + query({ name: 'a2', src: src('none') }), 'POST'), 424, 'BadRequestException', /none/);
      // Describe.
      expect(await send(`${at}/a1`, 'GET'), 200, one);
      refuse(await send(`${at}/a2`, 'GET'), 404, 'BadRequestException', /a2/);
      // Update: pin, with an option of the handler beside it.
      expect(await send(`${at}/a1/update${query({ pin: 'true', priority: 'high' })}`, 'POST'), 200, {
        status: 'Adapter a1 updated',
      });
      expect(await send(`${at}/a1`, 'GET'), 200, { ...one, pin: true });
      refuse(await send(`${at}/a2/update?pin=true`, 'POST'), 404, 'BadRequestException', /a2/);
      // List, in pages.
      const names: string[] = [];
      for (let token: string | undefined = ''; token !== undefined; ) {
        const page = await send(at + query({ limit: '2', ...(token && { next_page_token: token }) }), 'GET');
        assert.equal(page.status, 200);
        names.push(...page.body.adapters.map(({ name }: { name: string }) => name));
        token = page.body.nextPageToken;
      }
      assert.deepEqual(names, ['a1', 'eng_alpaca', 'portuguese_alpaca']);
      // Unregister.
      expect(await send(`${at}/a1`, 'DELETE'), 200, { status: 'Adapter a1 unregistered' });
      refuse(await send(`${at}/a1`, 'DELETE'), 404, 'BadRequestException', /a1/);
      refuse(await call('/invocations', { inputs: prompt, adapters: 'a1' }), 424, 'BadRequestException', /a1/);
      // With an alias, which stands in the texts.
      const alias = { 'X-Amzn-SageMaker-Adapter-Alias': 'First' };
      const made = await send(at + query({ name: 'a1', src: one.src, preload: 'false' }), 'POST', undefined, alias);
      expect(made, 200, { status: 'Adapter First registered' });
      expect(await send(`${at}/a1`, 'GET'), 200, { ...one, preload: false });
      expect(await send(`${at}/a1`, 'DELETE'), 200, { status: 'Adapter First unregistered' });
    });
  }

  const base = await call('/invocations', { inputs: prompt });
  const english = await call('/invocations', { inputs: prompt, adapters: 'eng_alpaca' });
  const portuguese = await call('/invocations', { inputs: prompt, adapters: 'portuguese_alpaca' });

  await t.test('a call names its adapter in the body', async () => {
    for (const reply of [base, english, portuguese]) {
      assert.equal(reply.status, 200);
      assert.deepEqual(Object.keys(reply.body), ['generated_text']);
    }
    assert.deepEqual([base, english, portuguese].flatMap(answeredBy), ['base', 'eng_alpaca', 'portuguese_alpaca']);
    const texts = new Set([base, english, portuguese].map(({ body }) => body.generated_text));
    assert.equal(texts.size, 3, 'each adapter changes the answer');
  });

  await t.test('every input of a list names its own, and none is the base', async () => {
    const inputs = [prompt, prompt, prompt];
    const reply = await call('/invocations', { inputs, adapters: ['eng_alpaca', 'portuguese_alpaca', ''] });
    expect(reply, 200, [english.body, portuguese.body, base.body]);
    assert.deepEqual(answeredBy(reply), ['eng_alpaca', 'portuguese_alpaca', 'base']);
    const single = await call('/invocations', { inputs: [prompt], adapters: ['eng_alpaca'] });
    expect(single, 200, [english.body]);
    const short = await call('/invocations', { inputs, adapters: ['eng_alpaca', ''] });
    assert.deepEqual([short.status, short.body.reason], [400, 'ADAPTER_COUNT_MISMATCH']);
  });

  await t.test('or its query or a header names it, on every route', async () => {
    for (const route of ['/invocations', '/predictions/mymodel', '/models/mymodel/invoke', '/v1/chat/completions']) {
      const ways: readonly [string, Record<string, string>][] = [
        [query({ adapter: 'eng_alpaca' }), {}],
        ['', { 'X-Amzn-SageMaker-Custom-Attributes': 'adapter=eng_alpaca' }],
        ['', { 'X-Amzn-SageMaker-Adapter-Identifier': 'eng_alpaca' }],
        ['', { 'x-amzn-sagemaker-adapter-identifier': 'eng_alpaca' }],
      ];
      for (const [search, headers] of ways) {
        const reply = await call(route + search, { inputs: prompt }, headers);
        expect(reply, 200, english.body);
        assert.deepEqual(answeredBy(reply), ['eng_alpaca'], route);
      }
    }
    const unknown = await call('/invocations?adapter=none', { inputs: prompt });
    refuse(unknown, 424, 'BadRequestException', /none/);
  });

  await t.test('a stream is lines that end with the whole text', async () => {
    const body = JSON.stringify({ inputs: prompt, adapters: 'eng_alpaca', stream: true, parameters });
    const reply = await fetch(`${url}/invocations`, { method: 'POST', headers: JSON_TYPE, body });
    assert.equal(reply.headers.get('content-type'), 'application/jsonlines');
    const all = (await reply.text()).trimEnd().split('\n');
    assert.equal(all.length, parameters.max_new_tokens);
    assert.equal(JSON.parse(all.at(-1)!).generated_text, english.body.generated_text);
  });

  await t.test('a workflow binds adapters of one model to names of their own', async () => {
    for (const [name, source] of Object.entries({ w1: 'rslora', w2: 'all-r8' })) {
      const definition = {
        name,
        version: '0.1',
        models: { m: model },
        configs: { adapters: { [`${name}-adapter`]: { model: 'm', src: src(source) } } },
        workflow: { out: ['adapter', `${name}-adapter`, 'in'] },
      };
      const file = path.join(dir, name);
      mkdirSync(file);
      writeFileSync(path.join(file, 'workflow.json'), JSON.stringify(definition));
      const registered = await send(`${url}/workflows${query({ url: file })}`, 'POST');
      expect(registered, 200, { status: `Workflow "${name}" registered.` });
    }
    expect(await call('/predictions/w1', { inputs: prompt }), 200, english.body);
    expect(await call('/predictions/w2', { inputs: prompt }), 200, portuguese.body);
    // The template makes the same from a query.
    const fields = { template: 'adapter', adapter: 'w3', url: src('rslora'), model };
    expect(await send(`${url}/workflows${query(fields)}`, 'POST'), 200, { status: 'Workflow "w3" registered.' });
    expect(await call('/predictions/w3', { inputs: prompt }), 200, english.body);
    refuse(await send(`${url}/workflows${query(fields)}`, 'POST'), 409, 'BadRequestException', /w3/);
    const listed = await send(`${url}/workflows`, 'GET');
    assert.deepEqual(
      listed.body.workflows.map(({ workflowName, version }: Record<string, string>) => [workflowName, version]),
      [
        ['mymodel', undefined],
        ['w1', '0.1'],
        ['w2', '0.1'],
        ['w3', '0.1'],
      ],
    );
    // Taking one away leaves the others.
    const gone = await send(`${url}/workflows/w1`, 'DELETE');
    expect(gone, 200, { status: 'Model or workflow "w1" unregistered' });
    expect(await call('/predictions/w3', { inputs: prompt }), 200, english.body);
    assert.equal((await call('/predictions/w1', { inputs: prompt })).status, 404);
  });
});
