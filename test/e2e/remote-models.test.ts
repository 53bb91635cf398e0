/** Models whose files are elsewhere, on the real server: a hub, S3, an archive; with the adapters that lie in them. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { CreateBucketCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { GOLDEN } from '../engine/golden-model.js';
import { spawnServer, startServer } from '../rest/served.js';
import { sha256, tarGz } from '../sources/archives.js';
import { fileServer } from '../sources/file-server.js';
import { type Hub, hubDouble } from '../sources/hub-double.js';
import { hasS3Server, KEYS, startS3 } from '../sources/s3-server.js';

const MODEL = `${GOLDEN}models/llama`;
const ADAPTER = `${GOLDEN}adapters/llama/all-r8`;
const dir = mkdtempSync(path.join(tmpdir(), 'loramux-remote-'));
after(() => rmSync(dir, { recursive: true, force: true }));

/** Files of the golden model with one adapter in it. */
const files: Record<string, Buffer> = {};
for (const name of readdirSync(MODEL)) {
  if (/\.(json|safetensors|jinja)$/.test(name)) files[name] = readFileSync(path.join(MODEL, name));
}
for (const name of ['adapter_config.json', 'adapter_model.safetensors']) {
  files[`adapters/inside/${name}`] = readFileSync(path.join(ADAPTER, name));
}

const request = { inputs: 'The weather', parameters: { max_new_tokens: 6, details: true } };

// biome-ignore lint/suspicious/noExplicitAny: answers of every route
async function ask(url: string, method = 'GET', body?: object): Promise<{ status: number; json: any }> {
  const json = body && { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) };
  const response = await fetch(url, { method, ...json });
  return { status: response.status, json: await response.json() };
}

/** Text and digest of the answer by the adapter that came with a model. */
async function answer(url: string, model: string): Promise<readonly [string, string]> {
  const { status, json } = await ask(`${url}/predictions/${model}`, 'POST', { ...request, adapters: 'inside' });
  assert.equal(status, 200, JSON.stringify(json));
  return [json.generated_text, json.details.receipt.adapters[0].digest];
}

/** Resolves when a model can be asked. */
async function ready(url: string, model: string): Promise<void> {
  for (;;) {
    const { models } = (await ask(`${url}/models`)).json;
    const { status } = models.find(({ modelName }: { modelName: string }) => modelName === model);
    if (status === 'READY') return;
    assert.equal(status, 'PENDING', model);
    await delay(20);
  }
}

let folders = 0;
const scratch = (): string => {
  folders += 1;
  const place = path.join(dir, String(folders));
  mkdirSync(place);
  return place;
};
const cache = scratch();
const flags = ['--log-level', 'error', '--cache-dir', cache];

let expected: readonly [string, string];
let hub: Hub;
before(async () => {
  // The machine's own cache of a hub would answer first.
  process.env.HF_HUB_CACHE = scratch();
  hub = await hubDouble();
  const local = path.join(scratch(), 'local');
  for (const [name, body] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(local, name)), { recursive: true });
    writeFileSync(path.join(local, name), body);
  }
  const { url, stop } = await spawnServer([...flags, '--model', local]);
  expected = await answer(url, 'local');
  await stop();
});
after(() => hub.close());

describe('models from elsewhere', () => {
  test('a hub id is served as the folder would be; what is registered later must be allowed', async (t) => {
    const commit = hub.commit('team/base', files);
    const hubFlags = [...flags, '--hub-endpoint', hub.endpoint, '--state-dir', scratch()];
    const first = await spawnServer([...hubFlags, '--model', 'team/base', '--allow-source', 'hf://team/other']);
    const { url } = first;
    assert.deepEqual(await answer(url, 'base'), expected);
    assert.equal((await ask(`${url}/models`)).json.models[0].modelUrl, 'hf://team/base@main');
    assert.equal((await ask(`${url}/models/base/adapters`)).json.adapters[0].name, 'inside');

    const asked = hub.api.requests.length;
    const register = (source: string, more = '') =>
      ask(`${url}/models?url=${encodeURIComponent(source)}${more}`, 'POST');
    for (const source of ['hf://team/base', `hf://team/base@${commit}`, 's3://none/base', 'team/base']) {
      const refused = await register(source, '&model_name=second');
      assert.deepEqual([refused.status, refused.json.reason], [400, 'MODEL_SOURCE_FORBIDDEN'], source);
    }
    assert.equal(hub.api.requests.length, asked, 'nothing was asked for');
    assert.equal((await register('hf://team/other')).json.reason, 'MODEL_SOURCE_INVALID');

    const other = { ...files, 'serving.properties': Buffer.from('option.max_rolling_batch_size=3\n') };
    hub.commit('team/other', other);
    assert.equal((await register('team/other@main')).json.status, 'Model "other" registered.');
    assert.deepEqual(await answer(url, 'other'), expected);
    const described = (await ask(`${url}/models/other`)).json[0].models[0];
    assert.deepEqual([described.modelUrl, described.batchSize], ['hf://team/other@main', 3]);

    // The answer comes before it is known what will be fetched.
    const early = await register('team/other@main', '&model_name=early&synchronous=false');
    assert.deepEqual([early.status, early.json.status], [202, 'Model "early" registration scheduled.']);
    await ready(url, 'early');

    // They come back as they were, also when their source has moved on.
    await first.stop();
    hub.commit('team/other', { 'config.json': Buffer.from('{}') });
    const again = await startServer(t, [...hubFlags, '--model', 'team/base', '--allow-source', 'hf://team/other']);
    assert.deepEqual(await answer(again, 'other'), expected);
    assert.deepEqual(await answer(again, 'early'), expected);
    assert.equal((await ask(`${again}/models/other`, 'DELETE')).status, 200);
    assert.equal((await ask(`${again}/predictions/other`, 'POST', request)).status, 404);
  });

  test('a kept workflow whose model cannot be fetched at the start comes back once that can be', async (t) => {
    hub.commit('team/late', files);
    const [state, { handle }] = [scratch(), hub.api];
    t.after(() => {
      hub.api.handle = handle;
    });
    const serve = () =>
      spawnServer([
        ...['--log-level', 'error', '--hub-endpoint', hub.endpoint, '--state-dir', state, '--cache-dir', scratch()],
        ...['--model', `base=${MODEL}`, '--allow-source', 'hf://team/late'],
      ]);
    const first = await serve();
    const definition = { name: 'late', models: { m: 'hf://team/late' }, workflow: { out: ['m', 'in'] } };
    assert.equal((await ask(`${first.url}/workflows`, 'POST', definition)).status, 200);
    await first.stop();

    hub.api.handle = (_request, response) => {
      response.writeHead(404, { 'content-type': 'application/json' }).end('{"error":"Repository not found"}');
      return true;
    };
    const second = await serve();
    t.after(() => second.stop());
    const use = () => ask(`${second.url}/predictions/late`, 'POST', request);
    const refused = await use();
    assert.deepEqual([refused.status, refused.json.reason], [503, 'MODEL_NOT_READY']);
    assert.match((await ask(`${second.url}/workflows/late`)).json[0].error, /team\/late/);
    hub.api.handle = handle;
    for (;;) {
      const { status, json } = await use();
      if (status === 200) break;
      assert.deepEqual([status, json.reason], [503, 'MODEL_NOT_READY']);
      const { headers } = await fetch(`${second.url}/predictions/late`, { method: 'POST', body: 'text' });
      await delay(Number(headers.get('retry-after') ?? 0.2) * 1000);
    }
    assert.equal((await ask(`${second.url}/workflows/late`)).json[0].error, undefined);
  });

  test('adapters that name the repository of a hub as their base fit it under any name', async (t) => {
    const config = JSON.parse(String(files['adapters/inside/adapter_config.json'])) as object;
    const inside = Buffer.from(JSON.stringify({ ...config, base_model_name_or_path: 'team/Base' }));
    hub.commit('team/base', { ...files, 'adapters/inside/adapter_config.json': inside });
    const url = await startServer(t, [
      ...[...flags, '--hub-endpoint', hub.endpoint, '--base-check', 'strict'],
      ...['--model', 'chat=team/base', '--model', 'again=hf://team/base@main'],
    ]);
    assert.equal((await answer(url, 'chat'))[0], expected[0]);
    assert.equal((await answer(url, 'again'))[0], expected[0]);
  });

  test('an archive; and nothing that a fetched model names may lie outside of it', async (t) => {
    const server = await fileServer();
    t.after(() => server.close());
    const serve = (name: string, more: Record<string, string>) => {
      const all = {
        ...files,
        ...Object.fromEntries(Object.entries(more).map(([at, text]) => [at, Buffer.from(text)])),
      };
      const archive = tarGz(Object.entries(all).map(([at, body]) => ({ path: `m/${at}`, body })));
      server.files.set(`/${name}.tgz`, archive);
      return `${server.url}/${name}.tgz?signature=S3CR3T#sha256=${sha256(archive)}`;
    };
    const named = serve('named', {});
    const url = await startServer(t, [
      ...flags,
      ...['--allow-path', MODEL, '--model', `base=${MODEL}`, '--allow-source', `http://${server.host}`],
      ...['--model', `atstart=${named}`],
    ]);
    assert.deepEqual(await answer(url, 'atstart'), expected);
    const register = (source: string) => ask(`${url}/models?${new URLSearchParams({ url: source })}`, 'POST');
    assert.equal((await register(serve('packed', {}))).json.status, 'Model "packed" registered.');
    assert.deepEqual(await answer(url, 'packed'), expected);
    const told = JSON.stringify([(await ask(`${url}/models`)).json, (await ask(`${url}/models/packed`)).json]);
    assert.ok(told.includes(`${server.url}/packed.tgz?[hidden]`) && !told.includes('S3CR3T'), told);
    for (const [name, properties] of [
      ['outside', `option.model_id=${MODEL}`],
      ['above', 'option.model_id=../../..'],
      ['adapters', `option.adapters=${path.dirname(ADAPTER)}`],
      ['merge', `option.merge=${ADAPTER}`],
    ] as const) {
      const refused = await register(serve(name, { 'serving.properties': properties }));
      assert.deepEqual([refused.status, refused.json.reason], [400, 'MODEL_INVALID'], name);
      assert.match(refused.json.message, /must name a folder of the model itself/, name);
    }
    const code = await register(serve('code', { 'serving.properties': 'option.entryPoint=h.js', 'h.js': 'x' }));
    assert.deepEqual([code.status, code.json.reason], [400, 'MODEL_INVALID'], 'code is never fetched');
    const onward = await register(serve('onward', { 'serving.properties': 'option.model_id=s3://none/base' }));
    assert.deepEqual([onward.status, onward.json.reason], [400, 'MODEL_SOURCE_FORBIDDEN']);
    const missing = await register(`${server.url}/none.tgz#sha256=${'0'.repeat(64)}`);
    assert.deepEqual([missing.status, missing.json.reason], [404, 'MODEL_SOURCE_INVALID']);
    assert.equal((await ask(`${url}/models`)).json.models.length, 3);
  });

  const skip = hasS3Server ? false : 'versitygw is not installed';
  test('option.model_id at S3, of the start and of a workflow', { skip }, async (t) => {
    const s3 = await startS3();
    const where = { endpoint: s3.endpoint, region: 'us-east-1' };
    const client = new S3Client({ ...where, credentials: KEYS, forcePathStyle: true });
    t.after(async () => {
      client.destroy();
      await s3.close();
    });
    process.env.AWS_ACCESS_KEY_ID = KEYS.accessKeyId;
    process.env.AWS_SECRET_ACCESS_KEY = KEYS.secretAccessKey;
    process.env.AWS_EC2_METADATA_DISABLED = 'true';
    await client.send(new CreateBucketCommand({ Bucket: 'models' }));
    for (const [name, body] of Object.entries(files)) {
      await client.send(new PutObjectCommand({ Bucket: 'models', Key: `base/${name}`, Body: body }));
    }
    const folder = path.join(scratch(), 'lead');
    mkdirSync(folder);
    writeFileSync(path.join(folder, 'serving.properties'), 'option.model_id=s3://models/base\noption.revision=v1\n');
    const s3Flags = [...flags, '--s3-endpoint', s3.endpoint, '--s3-region', 'us-east-1'];
    const places = ['--model', folder, '--model', 'plain=s3://models/base', '--allow-source', 's3://models'];
    const url = await startServer(t, [...s3Flags, ...places]);
    assert.deepEqual(await answer(url, 'plain'), expected);
    assert.deepEqual(await answer(url, 'lead'), expected);
    assert.equal((await ask(`${url}/models`)).json.models[0].modelUrl, 's3://models/base');

    const definition = {
      name: 'step',
      models: { m: 's3://models/base' },
      workflow: { out: ['m', 'in'] },
    };
    assert.equal((await ask(`${url}/workflows`, 'POST', definition)).status, 200);
    const { status, json } = await ask(`${url}/predictions/step`, 'POST', { ...request, adapters: 'inside' });
    assert.deepEqual([status, json.generated_text], [200, expected[0]]);
    const engines = await (await fetch(`${url}/metrics`)).text();
    assert.equal([...engines.matchAll(/^loramux_engine_up\{/gm)].length, 1, 'one engine for both');
  });
});
