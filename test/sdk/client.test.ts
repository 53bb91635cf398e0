import assert from 'node:assert/strict';
import { constants, createServer, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo, Socket } from 'node:net';
import { describe, it } from 'node:test';
import * as sdk from '../../sdk/node.js';
import { AppError } from '../../server/errors.js';
import { eventually, startServer } from '../rpc/start-server.js';
import { CLIENTS, clientContract } from './client-contract.js';

clientContract('without a model', async () => {
  const server = await startServer();
  return {
    baseUrl: server.baseUrl,
    adapters: ['french', 'pirate'],
    activeRows: server.services.activeRows,
    close: () => server.close(0),
  };
});

for (const [name, connect] of Object.entries(CLIENTS)) {
  describe(`SDK over ${name}: management and retries`, () => {
    it('creates, describes and deletes an adapter', async () => {
      const server = await startServer();
      const client = connect(server.baseUrl);
      const params = { name: 'new', source: 'somewhere', pin: true, preload: false, options: { key: 'value' } };
      const created = await client.adapters.create(params);
      assert.equal(created.state, 'registered');
      assert.equal(created.pin, true);
      assert.deepEqual(created.options, { key: 'value' });
      await assert.rejects(client.adapters.create(params), sdk.AdapterExistsError);
      assert.deepEqual(await client.adapters.get('new'), created);
      assert.equal((await client.adapters.delete('new')).name, 'new');
      await assert.rejects(client.adapters.delete('new'), sdk.AdapterNotFoundError);
      await server.close();
    });

    it('repeats what the server refused for lack of room, calls and streams', async () => {
      const server = await startServer();
      const client = connect(server.baseUrl);
      for (const call of [() => client.predict('one'), () => client.stream('one').finalResult()]) {
        server.services.fail = new AppError('QUEUE_FULL', 'full', { retryAfterMs: 20 });
        const before = server.services.requests.length;
        const answer = call();
        await eventually(() => server.services.requests.length > before, 'the first try');
        server.services.fail = undefined;
        await answer;
        assert.equal(server.services.requests.length, before + 2);
      }
      await server.close();
    });

    it('gives up after the retries it is allowed, and never repeats what cannot succeed', async () => {
      const server = await startServer();
      const client = connect(server.baseUrl);
      const tries = async (error: Error, maxRetries: number): Promise<number> => {
        server.services.requests.length = 0;
        server.services.fail = error;
        await assert.rejects(client.predict('one', { maxRetries }), sdk.LoramuxError);
        return server.services.requests.length;
      };
      assert.equal(await tries(new AppError('QUEUE_FULL', 'full'), 1), 2);
      assert.equal(await tries(new AppError('QUEUE_FULL', 'full'), 0), 1);
      assert.equal(await tries(new AppError('QUEUE_FULL', 'full', { retryAfterMs: 3_600_000 }), 2), 1);
      assert.equal(await tries(new AppError('ADAPTER_INVALID', 'broken'), 2), 1);
      assert.equal(await tries(new Error('a fault'), 2), 1);
      await server.close();
    });

    it('sends nothing for a number of retries that is none, or for a header that cannot be', async () => {
      const server = await startServer();
      server.services.fail = new AppError('QUEUE_FULL', 'full');
      const client = connect(server.baseUrl);
      await assert.rejects(client.predict('one', { maxRetries: Number.NaN }), TypeError);
      await assert.rejects(client.predict('one', { headers: { 'x-a': 'two\nlines' } }), TypeError);
      assert.equal(server.services.requests.length, 0);
      await server.close();
    });

    it('sends no request whose adapter has the name of another field', async (t) => {
      const server = await startServer();
      t.after(() => server.close());
      const client = connect(server.baseUrl);
      for (const params of [
        { inputs: 'one', adapters: 'fr' },
        { inputs: [{ text: 'one', adapter_id: 'fr' }] },
        { inputs: 'one', parameters: { loraName: 'fr' } },
        { inputs: 'one', lora_adapters: ['fr'] },
        { inputs: 'one', adapterIds: ['fr'] },
        { inputs: 'one', activeAdapters: ['fr'] },
        { inputs: [{ text: 'one', lora_int_id: 1 }] },
        { inputs: 'one', Adapter: 'fr' },
        { inputs: 'one', defaultAdapters: 'fr' },
        { inputs: 'one', selection: { adapters: [{ name: 'fr' }] } },
        { inputs: [{ text: 'one', adapter_digest: 'fr' }] },
      ]) {
        await assert.rejects(
          client.predict(params as never),
          /no field \w+; adapter (of a request or an input )?names its adapter/,
        );
      }
      assert.equal(server.services.requests.length, 0);
    });

    it('sends no request whose adapter stands where none is read', async (t) => {
      const server = await startServer();
      t.after(() => server.close());
      const client = connect(server.baseUrl);
      const message = { role: 'user', content: 'one', adapter: 'fr' };
      for (const [params, options] of [
        ['one', { adapter: 'fr' }],
        ['one', { timeoutMs: 1000, lora_name: 'fr' }],
        [{ inputs: 'one', parameters: { maxNewTokens: 2, adapter: 'fr' } }],
        [{ inputs: [{ text: 'one', parameters: { adapter: 'fr' } }] }],
        [{ inputs: [{ messages: [message] }] }],
      ] as unknown as [never, never?][]) {
        const refusal = { name: 'TypeError', message: /no field \w+; adapter of a request or an input names/ };
        await assert.rejects(client.predict(params, options), refusal);
        assert.throws(() => client.stream(params, options), refusal);
      }
      const options = { baseUrl: server.baseUrl, adapter: 'fr' };
      assert.throws(() => new sdk.LoramuxClient(options), /options of a client have no field adapter/);
      assert.equal(server.services.requests.length, 0);
    });

    it('sends no request with what nothing reads, or with an adapter that is told otherwise', async (t) => {
      const server = await startServer();
      t.after(() => server.close());
      const client = connect(server.baseUrl);
      for (const [params, message, options] of [
        [{ inputs: 'one', temperature: 1 }, /a request has no field temperature; there are model, inputs, adapter,/],
        [{ inputs: [{ text: 'one', maxNewTokens: 1 }] }, /an input has no field maxNewTokens; there are text,/],
        [{ text: 'one', adapter: 'fr' }, /a request has no field text/],
        [{ inputs: { text: 'one', adapter: 'fr' } }, /inputs must be a text or a list of inputs/],
        [{ inputs: 'one', adapter: { name: 'fr', scale: 0.5 } }, /an adapter of a request has no field scale/],
        [{ inputs: 'one', adapter: [{ name: 'fr', digest: 'ab' }] }, /has no field digest; there are name, weight/],
        [{ inputs: [{ text: 'one', adapter: { name: 'fr', weight: '0.5' } }] }, /weight of adapter "fr" must be/],
        [{ inputs: 'one', adapter: { name: 'fr', weight: null } }, /weight of adapter "fr" must be a number/],
        [{ inputs: 'one', adapter: { fr: 0.5 } }, /adapter must be a name, null, \{ name, weight \}/],
        [{ inputs: 'one', adapter: [null] }, /adapter must be a name/],
        ['one', /options of a call must be an object; adapter of a request/, 'fr'],
        ['one', /options of a call must be an object/, ['fr']],
      ] as unknown as [never, RegExp, never?][]) {
        await assert.rejects(client.predict(params, options), { name: 'TypeError', message });
        assert.throws(() => client.stream(params, options), { name: 'TypeError', message });
      }
      assert.equal(server.services.requests.length, 0);
      await client.predict({ inputs: 'one', adapter: undefined, temperature: undefined } as never);
    });

    it('sends no request whose stops are not a list', async (t) => {
      const server = await startServer();
      t.after(() => server.close());
      const client = connect(server.baseUrl);
      const predict = (parameters: unknown) => client.predict({ inputs: 'one', parameters: parameters as never });
      await assert.rejects(predict({ stop: 'today' }), /stop must be a list/);
      await assert.rejects(predict({ stopTokenIds: 5 }), /stopTokenIds must be a list/);
      assert.equal(server.services.requests.length, 0);
    });

    it('sends no request with parameters that do not exist, and says which were meant', async (t) => {
      const server = await startServer();
      t.after(() => server.close());
      const client = connect(server.baseUrl);
      const predict = (parameters: object) => client.predict({ inputs: [{ text: 'one', parameters }] });
      await assert.rejects(predict({ max_new_tokens: 5 }), /no field max_new_tokens; maxNewTokens would be right/);
      await assert.rejects(predict({ maxTokens: 5 }), /no field maxTokens; maxNewTokens would be right/);
      await assert.rejects(predict({ temprature: 0 }), /no field temprature$/);
      assert.equal(server.services.requests.length, 0);
      await predict({ maxNewTokens: 5, temperature: undefined, top_p: undefined });
      assert.equal(server.services.requests.length, 1);
    });

    it('does not wait for a retry that its deadline does not allow', async () => {
      const server = await startServer();
      server.services.fail = new AppError('QUEUE_FULL', 'full', { retryAfterMs: 30_000 });
      await assert.rejects(connect(server.baseUrl).predict('one', { timeoutMs: 5_000 }), sdk.DeadlineError);
      assert.equal(server.services.requests.length, 1);
      await server.close();
    });

    it('never repeats a stream that has begun', async () => {
      const server = await startServer();
      server.services.failAfterTokens = 2;
      const stream = connect(server.baseUrl).stream('one');
      await assert.rejects(stream.finalResult(), sdk.InternalError);
      assert.equal(stream.partialText(), '[base] one');
      assert.equal(server.services.requests.length, 1);
      await server.close();
    });

    it('says when there is no server', async () => {
      const server = await startServer();
      await server.close();
      const client = connect(server.baseUrl);
      await assert.rejects(client.predict('one', { maxRetries: 0 }), sdk.ConnectionError);
      await assert.rejects(client.adapters.delete('one'), sdk.ConnectionError);
    });

    it('leaves nothing behind that keeps Node alive, however a stream ends', async () => {
      const timers = (): number => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;
      const server = await startServer();
      const client = connect(server.baseUrl);
      const before = timers();
      for await (const _ of client.stream('one')) break;
      client.stream('one').abort();
      await client.stream('one').finalResult();
      await assert.rejects(client.stream('one', { signal: AbortSignal.abort() }).finalResult(), sdk.AbortedError);
      await eventually(() => timers() <= before, 'the timers of the deadlines are gone');
      await server.close();
    });

    it('sends the headers of client and call', async () => {
      const server = await startServer();
      const { requestId } = await connect(server.baseUrl).predict('one', { headers: { 'x-request-id': 'mine' } });
      assert.equal(requestId, 'mine');
      await server.close();
    });
  });
}

const LOST: Readonly<Record<string, (stream: ServerHttp2Stream, sockets: Set<Socket>) => void>> = {
  'a stream that a server refuses because it shuts down': (stream) => stream.close(constants.NGHTTP2_REFUSED_STREAM),
  'a stream whose server is gone': (_, sockets) => {
    for (const socket of sockets) socket.destroy();
  },
};

for (const protocol of ['grpc', 'connect'] as const) {
  for (const [what, lose] of Object.entries(LOST)) {
    it(`repeats over ${protocol} ${what}`, async () => {
      let tries = 0;
      const sockets = new Set<Socket>();
      const server = createServer().on('stream', (stream) => {
        tries += 1;
        lose(
          stream.on('error', () => {}),
          sockets,
        );
      });
      server.on('connection', (socket: Socket) => sockets.add(socket));
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      const { port } = server.address() as AddressInfo;
      const client = new sdk.LoramuxClient({ baseUrl: `http://127.0.0.1:${port}`, protocol, maxRetries: 1 });
      try {
        await assert.rejects(client.predict('one'), sdk.ConnectionError);
        assert.equal(tries, 2);
        await assert.rejects(client.adapters.watch().next(), sdk.ConnectionError);
        assert.equal(tries, 4);
      } finally {
        client.close();
        server.close();
      }
    });
  }
}

describe('requests of the SDK', () => {
  it('must have exactly one prompt an input', async () => {
    const client = new sdk.LoramuxClient();
    await assert.rejects(client.predict({ inputs: [{} as never] }), TypeError);
    await assert.rejects(client.predict({ inputs: [{ text: 'a', tokenIds: [1] } as never] }), TypeError);
    client.close();
  });
});
