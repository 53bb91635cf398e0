/** Models that come and go on the real server. */
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { Health, HealthCheckResponse_ServingStatus as Status } from '../../gen/grpc/health/v1/health_pb.js';
import { spawnServer, startServer } from '../rest/served.js';
import { ADAPTERS, ask, DEMO, engines, FLAGS, MODEL, query, scratch, short } from './managed-models.js';

describe('models at run time', () => {
  test('the embedded model twice under two names: one engine, adapters of their own', async (t) => {
    const flags = ['--log-level', 'error', '--model', `one=${DEMO}`, '--model', `two=${DEMO}`];
    const url = await startServer(t, flags);
    const inputs = { inputs: 'How is the weather', adapters: 'pirate', ...short };
    const [one, two] = await Promise.all(
      ['one', 'two'].map((name) => ask(`${url}/predictions/${name}`, 'POST', inputs)),
    );
    assert.equal(one!.status, 200);
    assert.deepEqual(one!.json, two!.json);
    assert.deepEqual(await engines(url), ['one']);
    assert.equal((await ask(`${url}/models/two/adapters/pirate`, 'DELETE')).status, 200);
    assert.equal((await ask(`${url}/predictions/two`, 'POST', inputs)).status, 424);
    assert.equal((await ask(`${url}/predictions/one`, 'POST', inputs)).status, 200);
    assert.equal((await ask(`${url}/models/one`, 'DELETE')).status, 200);
    assert.equal((await ask(`${url}/predictions/one`, 'POST', inputs)).status, 404);
    assert.equal((await ask(`${url}/predictions/two`, 'POST', { ...inputs, adapters: 'french' })).status, 200);
  });

  test('each has a health status of its own, which can be watched', async (t) => {
    const url = await startServer(t, FLAGS);
    const client = createClient(Health, createGrpcTransport({ baseUrl: url }));
    const { statuses } = await client.list({});
    assert.equal(statuses.base?.status, Status.SERVING);
    const unknown = client.check({ service: 'second' });
    await assert.rejects(unknown, /"second"; there are loramux\.v1\.InferenceService, .*, base$/);
    const seen: Status[] = [];
    for await (const { status } of client.watch({ service: 'second' })) {
      const before = seen.at(-1);
      seen.push(status);
      const body = { url: MODEL, model_name: 'second', synchronous: false };
      if (seen.length === 1) assert.equal((await ask(`${url}/models`, 'POST', body)).status, 202);
      if (status === Status.SERVING) assert.equal((await ask(`${url}/models/second`, 'DELETE')).status, 200);
      if (before === Status.SERVING) break;
    }
    assert.deepEqual(seen, [Status.SERVICE_UNKNOWN, Status.NOT_SERVING, Status.SERVING, Status.SERVICE_UNKNOWN]);
    const workflow = { name: 'step', models: { m: 'base' }, workflow: { out: ['m', 'in'] } };
    assert.equal((await ask(`${url}/workflows`, 'POST', workflow)).status, 200);
    assert.equal((await client.check({ service: 'step' })).status, Status.SERVING);
  });

  test('a model goes with its aliases, and a workflow leaves an adapter that an alias leads to', async (t) => {
    const url = await startServer(t, FLAGS);
    const two = { url: MODEL, model_name: 'two' };
    assert.equal((await ask(`${url}/models`, 'POST', two)).status, 200);
    const source = { name: 'a', src: path.join(ADAPTERS, 'all-r8') };
    assert.equal((await ask(`${url}/models/two/adapters`, 'POST', source)).status, 200);
    assert.equal((await ask(`${url}/models/two/aliases/live?adapter=a`, 'PUT')).status, 200);
    assert.equal((await ask(`${url}/models/two`, 'DELETE')).status, 200);
    assert.equal((await ask(`${url}/models`, 'POST', two)).status, 200);
    assert.deepEqual((await ask(`${url}/models/two/adapters`)).json, { adapters: [] });
    assert.deepEqual((await ask(`${url}/models/two/aliases`)).json, { aliases: [] });

    const template = { template: 'adapter', adapter: 'w', url: source.src, model: 'base' };
    assert.equal((await ask(`${url}/workflows?${query(template)}`, 'POST')).status, 200);
    assert.equal((await ask(`${url}/models/base/aliases/live?adapter=w`, 'PUT')).status, 200);
    assert.equal((await ask(`${url}/workflows/w`, 'DELETE')).status, 200);
    const answered = await ask(`${url}/predictions/base`, 'POST', { inputs: 'a', adapters: 'live', ...short });
    assert.equal(answered.status, 200, JSON.stringify(answered.json));
    assert.deepEqual((await ask(`${url}/models/base`)).json[0].models[0].workflows ?? [], []);
  });

  test('an adapter stays while workflows answer with it, and goes with the last if they registered it', async (t) => {
    const url = await startServer(t, ['--log-level', 'error', '--model', `demo=${DEMO}`]);
    const flow = (name: string, adapter: string, src: string) =>
      ask(`${url}/workflows`, 'POST', {
        name,
        models: { m: 'demo' },
        configs: { adapters: { [adapter]: { model: 'm', src } } },
        workflow: { out: ['adapter', adapter, 'in'] },
      });
    assert.equal((await ask(`${url}/adapters?name=clients&src=adapters/pirate`, 'POST')).status, 200);
    for (const [name, adapter] of [
      ['one', 'own'],
      ['two', 'own'],
      ['three', 'clients'],
    ] as const) {
      assert.equal((await flow(name, adapter, 'adapters/pirate')).status, 200, name);
    }
    for (const [adapter, users] of Object.entries({ own: 'one, two', clients: 'three' })) {
      const { status, json } = await ask(`${url}/adapters/${adapter}`, 'DELETE');
      assert.deepEqual([status, json.reason, json.metadata.workflows], [409, 'ADAPTER_IN_USE', users]);
    }
    assert.equal((await ask(`${url}/adapters/own/update?pin=true`, 'POST')).status, 200);
    for (const name of ['one', 'three', 'two']) {
      assert.equal((await ask(`${url}/predictions/${name}`, 'POST', { inputs: 'a', ...short })).status, 200);
      assert.equal((await ask(`${url}/workflows/${name}`, 'DELETE')).status, 200);
    }
    assert.equal((await ask(`${url}/adapters/own`)).status, 404);
    assert.equal((await ask(`${url}/adapters/clients`, 'DELETE')).status, 200);
  });

  test('a workflow shares an adapter of its folder however that is spelled, and of no other', async (t) => {
    const dir = scratch(t);
    symlinkSync(path.join(DEMO, 'adapters/pirate'), path.join(dir, 'link'));
    const url = await startServer(t, ['--log-level', 'error', '--model', `demo=${DEMO}`, '--allow-path', dir]);
    const flow = (name: string, src: string) =>
      ask(`${url}/workflows`, 'POST', {
        name,
        models: { m: 'demo' },
        configs: { adapters: { pirate: { model: 'm', src } } },
        workflow: { out: ['adapter', 'pirate', 'in'] },
      });
    const spelled = [
      'adapters/pirate',
      './adapters//pirate/',
      path.join(dir, 'link'),
      `file://${DEMO}/adapters/pirate`,
    ];
    for (const [at, src] of spelled.entries()) assert.equal((await flow(`w${at}`, src)).status, 200, src);
    assert.deepEqual((await flow('other', 'adapters/french')).json.reason, 'ADAPTER_EXISTS');
    // What the name had when another workflow came is not what it has now.
    assert.equal((await ask(`${url}/adapters/pirate/update?src=adapters/french`, 'POST')).status, 200);
    assert.deepEqual((await flow('late', 'adapters/pirate')).json.reason, 'ADAPTER_EXISTS');
    assert.equal((await flow('other', 'adapters/french')).status, 200);
  });

  test('a workflow comes back after a restart where a client has changed the adapter that it shares', async (t) => {
    const flags = ['--log-level', 'error', '--model', `demo=${DEMO}`, '--state-dir', scratch(t)];
    const first = await spawnServer(flags);
    t.after(first.stop);
    const template = query({ template: 'adapter', adapter: 'shared', url: 'adapters/pirate', model: 'demo' });
    for (const [place, status] of [
      ['adapters?name=shared&src=adapters/pirate', 200],
      [`workflows?${template}`, 200],
      ['adapters/shared/update?src=adapters/french', 200],
    ] as const) {
      assert.equal((await ask(`${first.url}/${place}`, 'POST')).status, status, place);
    }
    const answer = () => ({ inputs: 'How is the weather', ...short });
    const before = await ask(`${first.url}/predictions/shared`, 'POST', answer());
    await first.kill();
    const url = await startServer(t, flags);
    assert.deepEqual(await ask(`${url}/predictions/shared`, 'POST', answer()), before);
    assert.equal((await ask(`${url}/workflows/shared`, 'DELETE')).status, 200);
    assert.equal((await ask(`${url}/adapters/shared`)).status, 200, "it is the client's");
  });

  test('a model that comes again has the adapters of its folder again, whatever was removed before', async (t) => {
    const dir = scratch(t);
    cpSync(DEMO, dir, { recursive: true });
    const url = await startServer(t, [...FLAGS, '--allow-path', dir]);
    const names = async () =>
      (await ask(`${url}/models/again/adapters`)).json.adapters.map(({ name }: { name: string }) => name);
    const register = () => ask(`${url}/models`, 'POST', { url: dir, model_name: 'again' });
    assert.equal((await register()).status, 200);
    const all = await names();
    assert.equal(all.length, 5);
    assert.equal((await ask(`${url}/models/again/adapters/shout`, 'DELETE')).status, 200);
    assert.equal((await ask(`${url}/models/again`, 'DELETE')).status, 200);
    assert.equal((await register()).status, 200);
    assert.deepEqual(await names(), all);
  });

  test('one folder by two paths is one engine', async (t) => {
    const dir = scratch(t);
    symlinkSync(MODEL, path.join(dir, 'link'));
    const url = await startServer(t, [...FLAGS, '--model', `linked=${path.join(dir, 'link')}`]);
    assert.deepEqual(await engines(url), ['base']);
    assert.equal((await ask(`${url}/predictions/linked`, 'POST', { inputs: 'a', ...short })).status, 200);
  });

  test('are registered, chosen and removed; faults touch nothing that runs', async (t) => {
    const dir = scratch(t);
    writeFileSync(path.join(dir, 'config.json'), '{"model_type": "llama"}');
    mkdirSync(path.join(dir, 'empty'));
    const url = await startServer(t, [...FLAGS, '--allow-path', dir]);
    const register = (fields: Readonly<Record<string, string>>) => ask(`${url}/models?${query(fields)}`, 'POST');

    assert.deepEqual((await register({ url: MODEL, model_name: 'second', dtype: 'int8' })).json, {
      status: 'Model "second" registered.',
    });
    assert.deepEqual((await engines(url)).sort(), ['base', 'second']);
    for (const choice of ['/predictions/second', '/models/second/invoke', '/invocations?model_name=second']) {
      assert.equal((await ask(`${url}${choice}`, 'POST', { inputs: 'a', ...short })).status, 200, choice);
    }
    // One model was named at the start: it answers when none is named.
    assert.equal((await ask(`${url}/invocations`, 'POST', { inputs: 'a', ...short })).status, 200);

    const wrong: readonly [Readonly<Record<string, string>>, number, string][] = [
      [{ url: MODEL, model_name: 'second' }, 409, 'MODEL_EXISTS'],
      [{ url: dir, model_name: 'broken' }, 400, 'MODEL_INVALID'],
      [{ url: `${dir}/none`, model_name: 'none' }, 404, 'MODEL_SOURCE_INVALID'],
      [{ url: `${dir}/empty`, model_name: 'empty' }, 404, 'MODEL_SOURCE_INVALID'],
      [{ url: path.dirname(dir), model_name: 'outside' }, 400, 'MODEL_SOURCE_FORBIDDEN'],
      [{ model_name: 'none' }, 400, 'INVALID_REQUEST'],
      [{ url: MODEL, model_name: 'a b' }, 400, 'INVALID_REQUEST'],
      [{ url: MODEL, model_name: 'c', batch_size: '0' }, 400, 'INVALID_REQUEST'],
    ];
    for (const [fields, status, reason] of wrong) {
      const answer = await register(fields);
      assert.deepEqual([answer.status, answer.json.reason], [status, reason], JSON.stringify(fields));
    }
    const names = (await ask(`${url}/models`)).json.models.map(({ modelName }: { modelName: string }) => modelName);
    assert.deepEqual(names, ['base', 'second']);

    const later = await register({ url: dir, model_name: 'later', synchronous: 'false' });
    assert.deepEqual([later.status, later.json.status], [202, 'Model "later" registration scheduled.']);
    for (let state = ''; state !== 'Failed'; await sleep(20)) state = (await ask(`${url}/ping`)).json.later.status;
    assert.equal((await ask(`${url}/ping`)).status, 200, 'a registration that failed is its own matter');
    assert.equal((await ask(`${url}/predictions/later`, 'POST', { inputs: 'a' })).json.reason, 'MODEL_NOT_READY');
    assert.match((await ask(`${url}/models/later`)).json[0].models[0].error, /hidden_size|config/);
    assert.equal((await ask(`${url}/models/later`, 'DELETE')).status, 200);

    // Removed while it loads, and while another one does.
    await register({ url: MODEL, model_name: 'third', dtype: 'int8', batch_size: '3', synchronous: 'false' });
    const fourth = register({ url: MODEL, model_name: 'fourth', batch_size: '4' });
    assert.equal((await ask(`${url}/models/third`, 'DELETE')).status, 200);
    assert.equal((await fourth).status, 200);
    assert.equal((await ask(`${url}/models/third`)).status, 404);
    assert.deepEqual((await engines(url)).sort(), ['base', 'fourth', 'second']);

    const more = await ask(`${url}/models/second?max_worker=0`, 'PUT');
    assert.equal(more.status, 400);
    assert.equal((await ask(`${url}/models/second?min_worker=1&max_worker=2`, 'PUT')).status, 200);
  });

  test('an answer that runs is finished before its model goes', async (t) => {
    const url = await startServer(t, FLAGS);
    await ask(`${url}/models?${query({ url: MODEL, model_name: 'second', batch_size: '2' })}`, 'POST');
    const parameters = { max_new_tokens: 200, ignore_eos_token: true, details: true };
    const stream = await fetch(`${url}/predictions/second`, {
      method: 'POST',
      body: JSON.stringify({ inputs: 'a', stream: true, parameters }),
    });
    const gone = ask(`${url}/models/second`, 'DELETE');
    const lines = (await stream.text()).trim().split('\n');
    assert.equal(JSON.parse(lines.at(-1)!).details.generated_tokens, 200);
    assert.equal((await gone).status, 200);
    assert.deepEqual(await engines(url), ['base']);
  });

  test('a folder that others may write to names weights only where models may come from', async (t) => {
    const [dir, elsewhere] = [scratch(t), scratch(t)];
    cpSync(MODEL, path.join(elsewhere, 'weights'), { recursive: true });
    symlinkSync(path.join(elsewhere, 'weights'), path.join(dir, 'link'));
    const url = await startServer(t, [...FLAGS, '--allow-path', dir]);
    for (const [name, weights, status] of [
      ['outside', path.join(elsewhere, 'weights'), 400],
      ['linked', '../link', 400],
      ['inside', MODEL, 200],
    ] as const) {
      mkdirSync(path.join(dir, name));
      writeFileSync(path.join(dir, name, 'serving.properties'), `option.model_id=${weights}\n`);
      const answer = await ask(`${url}/models?${query({ url: path.join(dir, name), model_name: name })}`, 'POST');
      assert.equal(answer.status, status, `${name}: ${JSON.stringify(answer.json)}`);
      if (status === 400) assert.match(answer.json.message, /option\.model_id.* models may be registered from/);
    }
  });

  test('a store is served without what is broken in it', async (t) => {
    const store = scratch(t);
    for (const name of ['good', 'bad']) mkdirSync(path.join(store, name));
    writeFileSync(path.join(store, 'good/serving.properties'), `option.model_id=${MODEL}\n`);
    cpSync(`${ADAPTERS}/qv-r4`, path.join(store, 'good/adapters/qv'), { recursive: true });
    mkdirSync(path.join(store, 'good/adapters/broken'));
    writeFileSync(path.join(store, 'good/adapters/broken/adapter_config.json'), '{}');
    writeFileSync(path.join(store, 'bad/config.json'), '{}');
    mkdirSync(path.join(store, 'flow'));
    writeFileSync(
      path.join(store, 'flow/workflow.yaml'),
      `name: flow\nmodels:\n  inner: ../good\nconfigs:\n  adapters:\n    qv: {model: inner, src: ../good/adapters/qv}\nworkflow:\n  out: [adapter, qv, in]\n`,
    );
    const { url, stop, output } = await spawnServer(['--log-level', 'warn', '--model-store', store]);
    t.after(stop);
    const told = output()
      .split('\n')
      .filter((line) => line.includes('"model":"bad"'));
    assert.equal(told.length, 1, told.join('\n'));
    const wanted = await ask(`${url}/predictions/good`, 'POST', { inputs: 'a', adapters: 'qv', ...short });
    assert.equal(wanted.status, 200);
    assert.deepEqual((await ask(`${url}/predictions/flow`, 'POST', { inputs: 'a', ...short })).json, wanted.json);
    const { json } = await ask(`${url}/ping`);
    assert.deepEqual([json.good.status, json.bad.status], ['Healthy', 'Failed']);
    assert.match(json.bad.error, /hidden_size|config/);
    const { failures, ...counts } = json.good.adapters;
    assert.deepEqual(counts, { status: 'Partial', registered: 2, ready: 1, loading: 0, failed: 1 });
    assert.match(failures.broken, /adapter_config|peft_type|config/);
    const verbose = await ask(`${url}/ping?verbose=true`);
    assert.equal(verbose.status, 200, 'an adapter that failed is its own matter');
    const { broken, qv } = verbose.json.good.adapters.each;
    assert.deepEqual([broken.status, qv], ['Failed', { status: 'Healthy', state: 'ready' }]);
    assert.equal((await ask(`${url}/models?url=good&model_name=again`, 'POST')).status, 200);
  });
});
