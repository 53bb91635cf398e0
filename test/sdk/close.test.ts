/** What runs ends with its client, and a watch does not end with a server that comes back. */
import assert from 'node:assert/strict';
import { connect, createServer, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import * as sdk from '../../sdk/node.js';
import { echoServices } from '../rpc/echo-services.js';
import { eventually, startServer } from '../rpc/start-server.js';
import { managed } from '../service/managed.js';

const endless = { inputs: 'on and on', parameters: { maxNewTokens: 400, ignoreEos: true } };

async function start(t: TestContext) {
  const { service } = managed();
  const services = { ...echoServices(20), adapters: service };
  const server = await startServer({ services });
  t.after(async () => {
    service.drain();
    await server.close();
    await service.close();
  });
  return { server, services, watchers: () => service.watchers };
}

for (const protocol of ['grpc', 'connect', 'connect-h1'] as const) {
  test(`closing a client over ${protocol} cancels what runs, and repeats none of it`, async (t) => {
    const { server, services, watchers } = await start(t);
    const client = new sdk.LoramuxClient({ baseUrl: server.baseUrl, protocol });
    const watching = (async () => {
      for await (const _ of client.adapters.watch());
    })();
    const calls = [client.predict(endless), client.stream(endless).finalText(), watching];
    const ends = Promise.allSettled(calls);
    await eventually(() => services.activeRows() === 2 && watchers() === 1, 'all of it runs');
    client.close();
    for (const end of await ends) {
      assert.ok(end.status === 'rejected' && end.reason instanceof sdk.AbortedError, JSON.stringify(end));
    }
    await eventually(() => services.activeRows() === 0 && watchers() === 0, 'nothing is left');
    assert.equal(services.requests.length, 2);
    assert.match((await client.predict('again')).text, /again/, 'a call later on makes a new connection');
    client.close();
  });
}

test('a watch outlasts a server that is away for longer than a call waits', async (t) => {
  const { server } = await start(t);
  let away = false;
  let refused = 0;
  const open = new Set<Socket>();
  const proxy = createServer((socket) => {
    open.add(socket.on('error', () => {}));
    if (away) {
      refused += 1;
      socket.destroy();
    } else socket.pipe(connect(server.port, '127.0.0.1').on('error', () => {})).pipe(socket);
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  const { port } = proxy.address() as { port: number };
  const client = new sdk.LoramuxClient({ baseUrl: `http://127.0.0.1:${port}`, protocol: 'connect-h1' });
  t.after(() => {
    client.close();
    for (const socket of open) socket.destroy();
    proxy.close();
  });
  const watch = client.adapters.watch();
  assert.equal((await watch.next()).value?.type, 'synced');
  const next = watch.next();
  away = true;
  for (const socket of open) socket.destroy();
  await Promise.race([next, eventually(() => refused > 3, 'it goes on trying')]);
  away = false;
  assert.equal((await next).value?.type, 'synced');
  const strict = client.adapters.watch({}, { maxRetries: 0 });
  await strict.next();
  away = true;
  for (const socket of open) socket.destroy();
  await assert.rejects(strict.next(), sdk.ConnectionError);
});
