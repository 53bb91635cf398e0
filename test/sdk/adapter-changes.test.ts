/** Changes of adapters through the SDK and RPC, against the real adapter service. */
import assert from 'node:assert/strict';
import { connect, createServer, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { FieldMaskSchema } from '@bufbuild/protobuf/wkt';
import type { AdapterEvent } from '../../sdk/adapter-types.js';
import * as errors from '../../sdk/errors.js';
import { LoramuxClient } from '../../sdk/node.js';
import { echoServices } from '../rpc/echo-services.js';
import { eventually, startServer } from '../rpc/start-server.js';
import { type Managed, managed } from '../service/managed.js';

async function start(t: TestContext, protocol: 'grpc' | 'connect' | 'connect-h1' = 'grpc') {
  const behind = managed();
  const server = await startServer({ services: { ...echoServices(), adapters: behind.service } });
  const client = new LoramuxClient({ baseUrl: server.baseUrl, protocol, headers: { 'x-loramux-actor': 'ana' } });
  t.after(async () => {
    client.close();
    behind.service.drain();
    await server.close();
    await behind.service.close();
  });
  return { client, server, behind };
}

test('a change with a condition or a share that is misspelt, or a condition that is empty, is not made', async (t) => {
  const { client } = await start(t);
  const { adapters } = client;
  const { digest } = await adapters.create({ name: 'a', source: 'a0' });
  await adapters.create({ name: 'b', source: 'a1' });
  const other = { expected_digest: '00000000' } as object;
  const refused = async (message: RegExp, act: Promise<unknown>) =>
    assert.rejects(act, (error) => error instanceof TypeError && message.test(error.message));
  await refused(
    /a deletion has no field expected_digest; there are model, expectedDigest/,
    adapters.delete('a', other),
  );
  await refused(/a change of an adapter has no field/, adapters.update('a', { source: 'a1', ...other }));
  await refused(/a new adapter has no field/, adapters.create({ name: 'a', source: 'a1', replace: true, ...other }));
  await refused(/a rollback has no field/, adapters.rollback('a', other));
  await refused(/must be an object/, adapters.delete('a', '00000000' as never));
  await refused(/expectedDigest is empty/, adapters.delete('a', { expectedDigest: '' }));
  await refused(/expectedDigest is empty/, adapters.update('a', { pin: true, expectedDigest: '' }));
  const shares = [{ adapter: 'a', weight: 9 }, { adapter: 'b' }];
  await refused(/a target of an alias has no field weight/, adapters.aliases.set('live', shares));
  await refused(/a new model has no field lora/, client.models.register({ url: '/m', lora: false } as never));
  await refused(/a deletion has no field/, client.workflows.delete('w', { versions: '1' } as never));
  const { digest: now, pin } = await adapters.get('a');
  assert.deepEqual([now, pin], [digest, false]);
});

test('an update changes what it names; a rollback goes back, unless others were first', async (t) => {
  const { client } = await start(t);
  const first = await client.adapters.create({ name: 'a', source: 'a0', options: { color: 'red' } });
  const second = await client.adapters.update('a', { source: 'a1', pin: true, options: { size: 'L' } });
  assert.notEqual(second.digest, first.digest);
  assert.deepEqual([second.source, second.pin, second.options], ['a1', true, { color: 'red', size: 'L' }]);
  assert.deepEqual(
    second.versions.map(({ digest, source }) => [digest, source]),
    [
      [first.digest, 'a0'],
      [second.digest, 'a1'],
    ],
  );
  await assert.rejects(client.adapters.update('a', { pin: false, expectedDigest: first.digest }), (error) => {
    assert.ok(error instanceof errors.VersionConflictError);
    assert.equal(error.code, 'aborted');
    assert.equal(error.metadata.digest, second.digest);
    return true;
  });
  const back = await client.adapters.rollback('a');
  assert.deepEqual([back.digest, back.source, back.pin, back.versions.length], [first.digest, 'a0', true, 2]);
  await assert.rejects(client.adapters.rollback('a'), errors.VersionConflictError);
  assert.equal((await client.adapters.update('a', { digest: second.digest.slice(0, 8) })).digest, second.digest);
  await assert.rejects(client.adapters.delete('a', { expectedDigest: first.digest }), errors.VersionConflictError);
  const unknown = { name: 'b', source: 'a2', replace: true, expectedDigest: second.digest };
  await assert.rejects(client.adapters.create(unknown), errors.AdapterNotFoundError);
  await client.adapters.create({ name: 'a', source: 'a2', replace: true, expectedDigest: second.digest });
  await assert.rejects(client.adapters.create({ name: 'a', source: 'a2' }), errors.AdapterExistsError);
  await client.adapters.delete('a');
});

test('update_mask sets what it names and nothing else', async (t) => {
  const { client } = await start(t);
  await client.adapters.create({ name: 'a', source: 'a0', pin: true, options: { color: 'red' } });
  const update = (fields: object, ...paths: string[]) =>
    client.raw.adapters.updateAdapter({ name: 'a', ...fields, updateMask: create(FieldMaskSchema, { paths }) });
  const { adapter } = await update({ options: { size: 'L' } }, 'options', 'pin');
  assert.deepEqual([adapter!.options, adapter!.pin, adapter!.preload], [{ size: 'L' }, false, true]);
  for (const [fields, ...paths] of [
    [{}, 'name'],
    [{ pin: true }, 'preload'],
    [{}, 'source'],
    [{ source: 'a1', digest: '01234567' }, 'source', 'digest'],
  ] as [object, ...string[]][]) {
    await assert.rejects(update(fields, ...paths), { rawMessage: /update_mask|digest/ }, paths.join());
  }
});

test('aliases and the log', async (t) => {
  const { client } = await start(t);
  const { digest } = await client.adapters.create({ name: 'a', source: 'a0' });
  await client.adapters.create({ name: 'b', source: 'a1' });
  const { aliases } = client.adapters;
  const set = await aliases.set('live', [{ adapter: 'a', digest: digest.slice(0, 10), share: 9 }, { adapter: 'b' }]);
  assert.deepEqual(set.targets, [
    { adapter: 'a', digest, share: 9 },
    { adapter: 'b', share: 1 },
  ]);
  assert.deepEqual(await aliases.get('live'), set);
  await aliases.set('live', 'b');
  assert.deepEqual((await aliases.list())[0]!.targets, [{ adapter: 'b', share: 1 }]);
  await assert.rejects(client.adapters.delete('b'), errors.VersionConflictError);
  await assert.rejects(aliases.set('a', 'b'), errors.AdapterExistsError);
  await aliases.delete('live');
  await assert.rejects(aliases.get('live'), errors.AliasNotFoundError);
  const log = await client.adapters.log({ pageSize: 2 }).toArray();
  assert.deepEqual(
    log.map(({ action, name, actor }) => [action, name, actor]),
    [
      ['unalias', 'live', 'ana'],
      ['alias', 'live', 'ana'],
      ['alias', 'live', 'ana'],
      ['create', 'b', 'ana'],
      ['create', 'a', 'ana'],
    ],
  );
  assert.equal(log.at(-1)!.digestAfter, digest);
  assert.ok(log[0]!.time instanceof Date);
});

for (const protocol of ['grpc', 'connect-h1'] as const) {
  test(`a watch over ${protocol} tells loads as they go, ends with the loop, and with the server`, async (t) => {
    const { client, behind } = await start(t, protocol);
    await client.adapters.create({ name: 'a', source: 'a0' });
    let free = (): void => {};
    behind.hold = new Promise((resolve) => {
      free = resolve;
    });
    const seen: string[] = [];
    const done = (async () => {
      for await (const event of client.adapters.watch()) {
        seen.push(label(event));
        if (event.type === 'synced') {
          assert.equal(
            (await client.adapters.create({ name: 'b', source: 'a1', synchronous: false })).state,
            'loading',
          );
        }
        if (label(event) === 'b loading') free();
        if (label(event) === 'b ready') break;
      }
    })();
    await done;
    assert.deepEqual(seen.slice(0, 2), ['a ready', 'synced']);
    assert.ok(seen.includes('b loading'), seen.join());
    await eventually(async () => watchers(behind) === 0, 'the server knows that nobody watches');
    const watch = client.raw.adapters.watchAdapters({});
    const ended = (async () => {
      for await (const _ of watch);
    })();
    await eventually(async () => watchers(behind) === 1, 'it is watched');
    behind.service.drain();
    await assert.rejects(ended, /shutting down/);
  });
}

test('a watch tells of aliases, and of names that go', async (t) => {
  const { client } = await start(t, 'grpc');
  await client.adapters.create({ name: 'a', source: 'a0', preload: false });
  await client.adapters.aliases.set('live', 'a');
  const seen: string[] = [];
  for await (const event of client.adapters.watch()) {
    if (event.type === 'alias') seen.push(`${event.alias.name}: ${event.alias.targets.map((to) => to.share).join()}`);
    else seen.push(event.type === 'deleted' ? `${event.name} is gone` : event.type);
    if (event.type === 'synced') await client.adapters.aliases.set('live', { adapter: 'a', share: 7 });
    if (seen.at(-1) === 'live: 7') await client.adapters.aliases.delete('live');
    if (event.type === 'deleted') break;
  }
  assert.deepEqual(seen, ['changed', 'live: 1', 'synced', 'live: 7', 'live is gone']);
});

test('a watch goes on where a lost connection ended it', async (t) => {
  const { server, behind } = await start(t);
  const sockets = new Set<Socket>();
  const proxy = createServer((socket) => {
    const onward = connect(server.port, '127.0.0.1');
    for (const one of [socket, onward]) sockets.add(one.on('error', () => {}));
    socket.pipe(onward).pipe(socket);
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  const { port } = proxy.address() as { port: number };
  const client = new LoramuxClient({ baseUrl: `http://127.0.0.1:${port}`, protocol: 'connect-h1' });
  t.after(() => {
    client.close();
    for (const socket of sockets) socket.destroy();
    proxy.close();
  });
  const call = { requestId: 'x', signal: new AbortController().signal };
  await behind.service.create({ name: 'a', source: 'a0' }, call);
  const seen: string[] = [];
  for await (const event of client.adapters.watch()) {
    seen.push(event.type === 'synced' ? `synced ${event.snapshot}` : label(event));
    if (seen.at(-1) === 'synced true') {
      for (const socket of sockets) socket.destroy();
      await behind.service.create({ name: 'b', source: 'a1', preload: false }, call);
    }
    if (seen.at(-1) === 'synced false') break;
  }
  assert.deepEqual(seen, ['a ready', 'synced true', 'b registered', 'synced false'], 'nothing twice, nothing lost');
});

const label = (event: AdapterEvent): string =>
  event.type === 'changed'
    ? `${event.adapter.name} ${event.adapter.state}`
    : event.type === 'deleted'
      ? `${event.name} deleted`
      : event.type;

const watchers = ({ service }: Managed): number => service.watchers;
