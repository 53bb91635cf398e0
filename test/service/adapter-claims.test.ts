/** Adapters that workflows claim while clients change them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryStore } from '../../server/registry/memory-store.js';
import type { Adapters } from '../../server/service/adapter-service.js';
import { AdapterClaims } from '../../server/service/workflows/adapter-claims.js';
import { call, dir, managed, settle } from './managed.js';

/** A registry whose writes wait for the test. */
class HeldStore extends MemoryStore {
  held: Promise<void> = Promise.resolve();

  override async write(...args: Parameters<MemoryStore['write']>) {
    await this.held;
    return super.write(...args);
  }
}

const claimed = { model: 'm', name: 'x', source: 'a0', preload: true, pin: false, options: {} };

function setup(store = new MemoryStore()) {
  const { service } = managed({ store, usersOf: (adapter) => claims.usersOf(adapter) });
  const claims = new AdapterClaims({
    create: (request, by) => service.create(request, by),
    settled: (request) => service.settled(request),
    placeOf: (adapter) => service.placeOf(adapter),
    delete: (request, by) => service.delete(request, by),
    removeLeftovers: async () => {},
  });
  return { service, claims };
}

const there = async (service: Adapters) =>
  service.get({ name: 'x' }).then(
    ({ source }) => source,
    () => undefined,
  );

test('a claim of an adapter that is being deleted registers it anew', async () => {
  const store = new HeldStore();
  const { service, claims } = setup(store);
  await service.create({ name: 'x', source: 'a0' }, call());
  let release = () => {};
  store.held = new Promise((resolve) => {
    release = resolve;
  });
  const deleted = service.delete({ name: 'x' }, call());
  await settle();
  const claim = claims.claim(claimed, 'w', call());
  await settle();
  release();
  await Promise.all([deleted, claim]);
  assert.equal(await there(service), 'a0');
  await claims.release(claimed, 'w', call());
  assert.equal(await there(service), undefined, 'the workflow registered it');
});

test('what is claimed stays until the last workflow has given it back', async () => {
  const { service, claims } = setup();
  await claims.claim(claimed, 'w', call());
  await claims.claim({ ...claimed, source: `${dir}/./a0/` }, 'v', call());
  await assert.rejects(service.delete({ name: 'x' }, call()), /used by workflows: w, v/);
  await assert.rejects(claims.claim({ ...claimed, source: 'a1' }, 'u', call()), /from a0 already, not from a1/);
  await claims.release(claimed, 'w', call());
  assert.deepEqual(claims.usersOf(claimed), ['v']);
  await claims.release(claimed, 'v', call());
  assert.equal(await there(service), undefined);
});
