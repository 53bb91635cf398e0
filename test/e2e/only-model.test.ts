/** Which model answers a request that names none, as models come and go on the real server. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { LoramuxClient } from '../../sdk/node.js';
import { spawnServer } from '../rest/served.js';

const DEMO = fileURLToPath(new URL('../../models/demo', import.meta.url));

test('the only model answers what names none, also one that was registered since the start', async (t) => {
  const server = await spawnServer(['--log-level', 'error', '--allow-path', DEMO, '--model', `first=${DEMO}`]);
  t.after(() => server.stop());
  const client = new LoramuxClient({ baseUrl: server.url });
  t.after(() => client.close());
  const modelOf = async () => {
    const [answer] = (await client.predict({ inputs: 'one', parameters: { maxNewTokens: 1 } })).results;
    const { model } = await client.adapters.get('pirate');
    const body = JSON.stringify({ inputs: 'one', parameters: { max_new_tokens: 1 } });
    const headers = { 'content-type': 'application/json' };
    assert.equal((await fetch(`${server.url}/invocations`, { method: 'POST', body, headers })).status, 200);
    assert.equal(answer!.receipt.model, model);
    return model;
  };
  await client.models.register({ url: DEMO, name: 'second' });
  assert.equal(await modelOf(), 'first', 'one that comes beside the model of the start takes nothing from it');
  await client.models.unregister('first');
  assert.equal(await modelOf(), 'second');
  await client.models.register({ url: DEMO, name: 'first' });
  await assert.rejects(client.predict('one'), { reason: 'INVALID_REQUEST', message: /must name one/ });
  await client.models.unregister('second');
  assert.equal(await modelOf(), 'first');
  const workflow = { name: 'letters', models: { m: DEMO }, workflow: { out: ['m', 'in'] } };
  await client.workflows.create({ definition: workflow });
  await assert.rejects(client.predict('one'), { reason: 'INVALID_REQUEST' });
});
