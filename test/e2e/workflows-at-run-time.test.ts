/** Workflows that come and go on the real server. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startServer } from '../rest/served.js';
import { ADAPTERS, ask, engines, FLAGS, MAIN, MODEL, query, scratch, short } from './managed-models.js';

describe('workflows', () => {
  test('a thousand of them, one for each adapter, cost one engine and the weights that differ', async (t) => {
    const url = await startServer(t, FLAGS);
    const names = Array.from({ length: 1000 }, (_, at) => `tenant-${at}`);
    const sources = ['qv-r4', 'mlp-r16', 'att-r1', 'all-r8'];
    /** Eight at a time: more connections at once than the system queues would be refused by it. */
    const each = async (work: (at: number, name: string) => Promise<void>) => {
      const queue = names.entries();
      const worker = async () => {
        for (const [at, name] of queue) await work(at, name);
      };
      await Promise.all(Array.from({ length: 8 }, worker));
    };
    const memory = async () => {
      const text = await (await fetch(`${url}/metrics`)).text();
      return Number(/^process_resident_memory_bytes (\S+)$/m.exec(text)![1]);
    };
    const before = await memory();
    await each(async (at, adapter) => {
      const source = `${ADAPTERS}/${sources[at % sources.length]}`;
      const fields = { template: 'adapter', adapter, url: source, model: MODEL, preload: 'false' };
      assert.equal((await ask(`${url}/workflows?${query(fields)}`, 'POST')).status, 200);
    });
    assert.deepEqual(await engines(url), ['base'], 'the start-up model and the workflows run the same');
    // An engine, even of this small model, takes megabytes: a thousand of them would take many times this.
    const grown = ((await memory()) - before) / 2 ** 20;
    assert.ok(grown < 512, `a thousand workflows took ${grown} MiB`);
    const answers = await Promise.all(
      [0, 4, 999, 1].map((at) => ask(`${url}/predictions/tenant-${at}`, 'POST', { inputs: 'a', ...short })),
    );
    assert.deepEqual(answers[0]!.json, answers[1]!.json);
    assert.deepEqual(
      answers.map(({ status }) => status),
      [200, 200, 200, 200],
    );
    const metrics = await (await fetch(`${url}/metrics`)).text();
    assert.match(metrics, /^loramux_adapters_loaded\{model="base"\} 3$/m, 'equal content is held once');
    const all = await ask(`${url}/models/m`, 'DELETE');
    assert.deepEqual([all.status, all.json.reason], [409, 'MODEL_IN_USE']);
    await each(async (_, name) => assert.equal((await ask(`${url}/workflows/${name}`, 'DELETE')).status, 200));
    assert.equal((await ask(`${url}/models/m`)).status, 404);
    // The last deletion is answered before its weights have left.
    const none = /^loramux_adapters_loaded\{model="base"\} 0$/m;
    while (!none.test(await (await fetch(`${url}/metrics`)).text())) await sleep(20);
  });

  test('go while they are listed, and no other is passed over or told twice', async (t) => {
    const url = await startServer(t, FLAGS);
    for (const name of ['a', 'b', 'c', 'd']) {
      const definition = { name, models: { m: MODEL }, workflow: { out: ['m', 'in'] } };
      assert.equal((await ask(`${url}/workflows`, 'POST', definition)).status, 200);
    }
    const page = async (token: string) => {
      const { json } = await ask(`${url}/workflows?limit=2&next_page_token=${token}`);
      const names = (json.workflows as { workflowName: string }[]).map(({ workflowName }) => workflowName);
      return { names, next: json.nextPageToken as string };
    };
    const first = await page('');
    assert.deepEqual(first.names, ['a', 'b']);
    assert.equal((await ask(`${url}/workflows/a`, 'DELETE')).status, 200);
    const second = await page(first.next);
    // The model of the start stands among them.
    assert.deepEqual(second.names, ['base', 'c']);
    assert.deepEqual(await page(second.next), { names: ['d'], next: undefined });
    // Tokens that clients of the original write themselves: the first place, another, and one behind the end.
    assert.deepEqual((await page('0')).names, ['b', 'base']);
    assert.deepEqual(await page('2'), { names: ['c', 'd'], next: undefined });
    assert.deepEqual(await page('99'), { names: [], next: undefined });
  });

  test('answer step by step, whole and as a stream', async (t) => {
    const url = await startServer(t, FLAGS);
    const definition = {
      name: 'chain',
      version: '2',
      models: { m: MODEL },
      configs: { adapters: { first: { model: 'm', src: `${ADAPTERS}/qv-r4` } } },
      workflow: { draft: ['adapter', 'first', 'in'], out: ['m', ['id', 'draft']] },
    };
    assert.equal((await ask(`${url}/workflows`, 'POST', definition)).status, 200);
    const draft = await ask(`${url}/models/m/invoke`, 'POST', { inputs: ['a', 'b'], adapters: 'first', ...short });
    const texts = draft.json.map(({ generated_text }: { generated_text: string }) => generated_text);
    const wanted = await ask(`${url}/models/m/invoke`, 'POST', { inputs: texts, ...short });
    const chained = await ask(`${url}/predictions/chain/2`, 'POST', { inputs: ['a', 'b'], ...short });
    assert.deepEqual(chained.json, wanted.json);
    const body = JSON.stringify({ inputs: 'a', stream: true, ...short });
    const stream = await (await fetch(`${url}/predictions/chain`, { method: 'POST', body })).text();
    assert.equal(JSON.parse(stream.trim().split('\n').at(-1)!).generated_text, wanted.json[0].generated_text);
    assert.equal((await ask(`${url}/predictions/chain/1`, 'POST', { inputs: 'a' })).status, 404);
    // The version may stand elsewhere, too.
    const of = (place: string) => ask(`${url}${place}`, 'POST', { inputs: ['a', 'b'], ...short });
    assert.deepEqual((await of('/invocations?model_name=chain&model_version=2')).json, wanted.json);
    assert.equal((await of('/predictions/chain?model_version=1')).status, 404);
    assert.equal((await of('/predictions/chain/2?model_version=1')).status, 400);
  });

  test('and models survive a kill, and what was unregistered stays away', async (t) => {
    const dir = scratch(t);
    const run = async () => {
      const flags = [...FLAGS, '--port', '0', '--state-dir', path.join(dir, 'state')];
      const child = spawn(process.execPath, [MAIN, 'serve', ...flags], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      t.after(() => child.kill('SIGKILL'));
      let output = '';
      for await (const chunk of child.stdout) {
        output += chunk;
        const url = /http:\/\/[\w.:[\]]+\d/.exec(output)?.[0];
        if (url !== undefined) {
          child.stdout.resume();
          const kill = async () => {
            child.kill('SIGKILL');
            await once(child, 'exit');
          };
          return { url, kill };
        }
      }
      throw new Error(output);
    };
    const flow = (adapter: string) => query({ template: 'adapter', adapter, url: `${ADAPTERS}/qv-r4`, model: MODEL });
    const first = await run();
    await ask(`${first.url}/models?${query({ url: MODEL, model_name: 'extra', batch_size: '3' })}`, 'POST');
    await ask(`${first.url}/workflows?${flow('kept')}`, 'POST');
    await ask(`${first.url}/workflows?${flow('gone')}`, 'POST');
    await ask(`${first.url}/workflows/gone`, 'DELETE');
    const answer = await ask(`${first.url}/predictions/kept`, 'POST', { inputs: 'a', ...short });
    await first.kill();
    const second = await run();
    assert.deepEqual(await ask(`${second.url}/predictions/kept`, 'POST', { inputs: 'a', ...short }), answer);
    assert.equal((await ask(`${second.url}/workflows/gone`)).status, 404);
    assert.equal((await ask(`${second.url}/models/extra`)).json[0].models[0].batchSize, 3);
    assert.equal((await ask(`${second.url}/workflows/kept`, 'DELETE')).status, 200);
    assert.equal((await ask(`${second.url}/models/m`)).status, 404, 'its model goes, and its adapter');
    await second.kill();
  });
});
