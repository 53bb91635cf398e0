/** A server takes over what others change, whatever it is changing itself. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import type { MemoryStore } from '../../server/registry/memory-store.js';
import { LateStore } from './late-store.js';
import { call, managed } from './managed.js';

/** Its writes wait until the test lets them go on. */
class SlowStore extends LateStore {
  gate: Promise<void> = Promise.resolve();

  override async write(...change: Parameters<MemoryStore['write']>) {
    await this.gate;
    return super.write(...change);
  }
}

const key = (name: string) => ({ kind: 'adapter', scope: 'm', name });

it('a name of another server is found while a name that both know of is being changed here', async () => {
  const store = new SlowStore();
  const { service } = managed({ store, model: 'm' });
  await service.open('m', []);
  await service.create({ name: 'mine', source: 'a0', preload: false }, call());
  const mine = (await store.get(key('mine')))!;
  await store.write([{ key: key('other'), body: mine.body, note: { action: 'create' } }], {
    ...{ actor: 'other server', requestId: '' },
  });
  const other = (await store.get(key('other')))!;
  let goOn = () => {};
  store.gate = new Promise((resolve) => {
    goOn = resolve;
  });
  const deleted = service.delete({ name: 'mine' }, call());
  await store.tell([
    { key: key('mine'), record: mine, revision: mine.revision },
    { key: key('other'), record: other, revision: other.revision },
  ]);
  assert.equal((await service.get({ name: 'other' })).source, 'a0');
  goOn();
  await deleted;
});
