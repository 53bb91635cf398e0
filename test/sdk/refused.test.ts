/** What clients say where nobody answers, and refuse to send. */
import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { test } from 'node:test';
import * as web from '../../sdk/index.js';
import * as node from '../../sdk/node.js';
import { startServer } from '../rpc/start-server.js';

const typeError = (message: RegExp) => ({ name: 'TypeError', message });

/** An address where nothing listens. */
async function nowhere(): Promise<string> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return `127.0.0.1:${port}`;
}

for (const [entry, sdk] of Object.entries({ web, node })) {
  test(`a client of the ${entry} entry says where it found nobody, and why`, async () => {
    const place = await nowhere();
    const client = new sdk.LoramuxClient({ baseUrl: `http://${place}`, maxRetries: 0 });
    await assert.rejects(client.predict('one'), {
      name: 'ConnectionError',
      message: new RegExp(`ECONNREFUSED ${place}`),
    });
  });

  test(`a client of the ${entry} entry sends no messages without texts, and no workflow without one source`, async (t) => {
    const server = await startServer();
    t.after(() => server.close());
    const client = new sdk.LoramuxClient({ baseUrl: server.baseUrl });
    for (const [messages, message] of [
      ['hello', /^messages must be a list of \{ role, content \}$/],
      [[{ role: 'user', text: 'hello' }], /^messages\[0\]\.content must be a text, not undefined$/],
      [[{ role: 'user', content: 'hello' }, { content: 'hello' }], /^messages\[1\]\.role must be a text/],
    ] as unknown as [never, RegExp][]) {
      await assert.rejects(client.predict({ inputs: [{ messages }] }), typeError(message));
    }
    await assert.rejects(
      client.predict({ inputs: 'a', parameters: 5 as never }),
      typeError(/^parameters must be an obj/),
    );
    const create = (params: unknown) => client.workflows.create(params as never);
    for (const none of [{}, { url: '/a', definition: {} }, { url: undefined }]) {
      await assert.rejects(create(none), typeError(/^a new workflow needs exactly one of url, definition, template$/));
    }
    await assert.rejects(create({ path: '/a' }), typeError(/^a new workflow has no field path; there are url,/));
    assert.equal(server.services.requests.length, 0);
  });
}

test('a relative address is taken beside a fetch that knows where it is', async () => {
  const asked: string[] = [];
  const client = new web.LoramuxClient({
    baseUrl: '/api',
    maxRetries: 0,
    fetch: async (url) => {
      asked.push(String(url));
      throw new TypeError('offline');
    },
  });
  await assert.rejects(client.predict('one'), { name: 'ConnectionError', message: 'offline' });
  assert.deepEqual(asked, ['/api/loramux.v1.InferenceService/Predict']);
});
