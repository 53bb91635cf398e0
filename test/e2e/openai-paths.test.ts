/** What a client of OpenAI's API asks besides chats: completions, and the names that `model` may have. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { startServer } from '../rest/served.js';
import { ADAPTERS, ask, DEMO, FLAGS, MODEL, query } from './managed-models.js';

interface Named {
  readonly id: string;
  readonly object: string;
  readonly created: number;
  readonly parent?: string;
}

const DEMO_NAMES = ['french', 'json', 'pirate', 'polite', 'shout'];
const namesOf = (json: { data: Named[] }) => json.data.map(({ id, parent }) => [id, parent]);

describe('OpenAI paths', () => {
  test('list the model, its adapters and its aliases, and every name answers a completion', async (t) => {
    const url = await startServer(t, ['--log-level', 'error', '--model', `demo=${DEMO}`]);
    assert.equal((await ask(`${url}/aliases/live?adapter=json`, 'PUT')).status, 200);
    const { status, json } = await ask(`${url}/v1/models`);
    assert.equal(status, 200);
    assert.equal(json.object, 'list');
    const others = [...DEMO_NAMES, 'live'].sort();
    assert.deepEqual(namesOf(json), [['demo', undefined], ...others.map((name) => [name, 'demo'])]);
    for (const one of json.data as Named[]) {
      assert.equal(one.object, 'model');
      assert.ok(one.created > 1.7e9 && one.created < 1e11, 'seconds, not milliseconds');
      assert.deepEqual((await ask(`${url}/v1/models/${one.id}`)).json, one);
      const body = { prompt: 'How is the weather', max_tokens: 6 };
      const completed = await ask(`${url}/v1/completions`, 'POST', { ...body, model: one.id });
      const chosen = one.parent === undefined ? body : { ...body, adapters: one.id };
      const wanted = await ask(`${url}/invocations`, 'POST', chosen);
      assert.equal(completed.json.object, 'text_completion');
      assert.equal(completed.json.model, one.id);
      assert.deepEqual(completed.json.choices, wanted.json.choices, one.id);
    }
  });

  test('a deleted adapter is not listed, and a name that is none is told of', async (t) => {
    const url = await startServer(t, ['--log-level', 'error', '--model', `demo=${DEMO}`]);
    assert.equal((await ask(`${url}/adapters/pirate`, 'DELETE')).status, 200);
    const { json } = await ask(`${url}/v1/models`);
    assert.ok(!(json.data as Named[]).some(({ id }) => id === 'pirate'));
    for (const name of ['pirate', 'gpt-4o', 'a%2Fb']) {
      const missing = await ask(`${url}/v1/models/${name}`);
      assert.deepEqual([missing.status, missing.json.reason], [404, 'MODEL_NOT_FOUND'], name);
      assert.deepEqual([missing.json.error.type, missing.json.error.code], ['not_found_error', 'MODEL_NOT_FOUND']);
    }
    const asked = await ask(`${url}/v1/completions`, 'POST', { prompt: 'a', model: 'pirate' });
    assert.equal(asked.status, 424);
    assert.equal((await ask(`${url}/v1/models`, 'POST')).status, 405);
  });

  test('a chat without max_tokens may fill the context, or what the memory holds of it', async (t) => {
    for (const [flags, most] of [
      [[], 1024],
      [['--kv-bytes', '1MiB'], undefined],
    ] as const) {
      const url = await startServer(t, ['--log-level', 'error', ...flags, '--model', `demo=${DEMO}`]);
      const body = { messages: [{ role: 'user', content: 'How is the weather' }], ignore_eos: true };
      const { status, json } = await ask(`${url}/v1/chat/completions`, 'POST', body);
      assert.deepEqual([status, json.choices[0].finish_reason], [200, 'length']);
      const { prompt_tokens: prompt, total_tokens: total } = json.usage;
      if (most !== undefined) assert.equal(total, most);
      else {
        assert.ok(total < 1024);
        const more = await ask(`${url}/v1/chat/completions`, 'POST', { ...body, max_tokens: total - prompt + 1 });
        assert.deepEqual([more.status, more.json.error.code], [507, 'KV_EXHAUSTED']);
      }
    }
  });

  test('with several models the request says which one it asks about', async (t) => {
    const url = await startServer(t, [...FLAGS, '--model', `other=${MODEL}`]);
    const added = await ask(
      `${url}/models/base/adapters?${query({ name: 'qv-r4', src: `${ADAPTERS}/qv-r4` })}`,
      'POST',
    );
    assert.equal(added.status, 200);
    assert.deepEqual(namesOf((await ask(`${url}/v1/models`)).json), [
      ['base', undefined],
      ['other', undefined],
    ]);
    assert.equal((await ask(`${url}/v1/models/other`)).json.id, 'other');
    assert.equal((await ask(`${url}/v1/models/qv-r4`)).status, 404);
    assert.equal((await ask(`${url}/v1/models/qv-r4?model_name=base`)).json.parent, 'base');
    assert.deepEqual(namesOf((await ask(`${url}/v1/models?model_name=other`)).json), [['other', undefined]]);
    const chat = { messages: [{ role: 'user', content: 'a' }], max_tokens: 2 };
    for (const name of ['base', 'other']) {
      const { status, json } = await ask(`${url}/v1/chat/completions`, 'POST', { ...chat, model: name });
      assert.deepEqual([status, json.model], [200, name]);
    }
    const base = await ask(`${url}/v1/models?model_name=base`);
    assert.deepEqual(namesOf(base.json), [
      ['base', undefined],
      ['qv-r4', 'base'],
    ]);
    assert.equal((await ask(`${url}/v1/models?model_name=nobody`)).status, 404);
  });
});
