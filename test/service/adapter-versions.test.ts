import assert from 'node:assert/strict';
import { cpSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { ErrorReason } from '../../server/errors.js';
import { AppError } from '../../server/errors.js';
import { MemoryStore } from '../../server/registry/memory-store.js';
import { writeAdapter } from '../adapters/adapter-files.js';
import { failsWith } from '../app-error.js';
import { BYTES, call, dir, forever, managed, select, settle, until } from './managed.js';

describe('a new version', () => {
  it('serves new rows; running rows keep theirs until they end, then its memory goes', async () => {
    const { service, engine } = managed();
    const first = await service.create({ name: 'a', source: 'a0' }, call());
    const [running] = await service.acquire('m', select('a'), forever);
    const second = await service.update({ name: 'a', source: 'a1' }, call());
    assert.notEqual(second.digest, first.digest);
    const [fresh] = await service.acquire('m', select('a'), forever);
    assert.equal(running!.leases[0]!.digest, first.digest);
    assert.equal(fresh!.leases[0]!.digest, second.digest);
    assert.equal((await service.get({ name: 'a' })).runningRows, 2, 'rows of all versions');
    await settle();
    assert.equal(engine.loaded.size, 2);
    running!.release();
    await settle();
    assert.deepEqual([...engine.loaded.keys()], [second.digest]);
    fresh!.release();
    assert.equal((await service.get({ name: 'a' })).runningRows, 0);
  });

  it('that cannot be used leaves the old one as it was, and nothing behind', async () => {
    const { service, engine } = managed();
    await service.create({ name: 'a', source: 'a0' }, call());
    const before = await service.get({ name: 'a' });
    for (const source of ['nothing-there', '/', 's3x://y']) {
      await assert.rejects(service.update({ name: 'a', source, pin: true }, call()), AppError);
    }
    engine.failing.add((await managed().service.create({ name: 'x', source: 'a1' }, call())).digest);
    await assert.rejects(service.update({ name: 'a', source: 'a1' }, call()), failsWith('ENGINE_FAILED'));
    assert.deepEqual(await service.get({ name: 'a' }), before);
    assert.equal(engine.loaded.size, 1);
    assert.equal((await service.events({})).events.length, 1);
  });

  it('is gone back from to content that is as it was, and only to that', async () => {
    const { service, reads } = managed();
    mkdirSync(join(dir, 'moving'), { recursive: true });
    writeAdapter(join(dir, 'moving'), {}, 30);
    const first = await service.create({ name: 'a', source: 'moving' }, call());
    const second = await service.update({ name: 'a', source: 'a1' }, call());
    const back = await service.update({ name: 'a', digest: first.digest }, call());
    assert.deepEqual([back.digest, back.source], [first.digest, 'moving']);
    assert.equal((await service.update({ name: 'a', digest: first.digest }, call())).revision, back.revision);
    const before = reads();
    await service.update({ name: 'a', digest: second.digest }, call());
    assert.equal(reads(), before + 1);
    writeAdapter(join(dir, 'moving'), {}, 31);
    await assert.rejects(
      service.update({ name: 'a', digest: first.digest }, call()),
      failsWith('ADAPTER_INVALID', /have changed/),
    );
    assert.equal((await service.get({ name: 'a' })).digest, second.digest);
    const taken = await service.update({ name: 'a', source: 'moving' }, call());
    assert.equal(taken.versions!.length, 3);
    await assert.rejects(service.update({ name: 'a', digest: '0123456789' }, call()), failsWith('VERSION_NOT_FOUND'));
  });

  it('and a change of settings at the same time both take effect', async () => {
    const { service } = managed();
    await service.create({ name: 'a', source: 'a0', options: { x: '1' } }, call());
    await Promise.all([
      service.update({ name: 'a', source: 'a1' }, call()),
      service.update({ name: 'a', mergeOptions: { y: '2' } }, call()),
      service.update({ name: 'a', pin: true }, call()),
    ]);
    const { source, options, pin } = await service.get({ name: 'a' });
    assert.deepEqual([source, options, pin], ['a1', { x: '1', y: '2' }, true]);
  });

  it('is made by one of those who expect the same digest', async () => {
    const { service } = managed();
    const { digest } = await service.create({ name: 'a', source: 'a0' }, call());
    const tries = await Promise.allSettled(
      [1, 2, 3].map((i) => service.update({ name: 'a', source: `a${i}`, expectedDigest: digest }, call())),
    );
    assert.equal(tries.filter(({ status }) => status === 'fulfilled').length, 1);
    for (const one of tries) if (one.status === 'rejected') failsWith('VERSION_CONFLICT')(one.reason);
    assert.equal((await service.get({ name: 'a' })).versions!.length, 2);
  });

  it('is not asked for by what is no digest, nor by fewer digits than tell one, which the refusal says', async () => {
    const { service } = managed();
    const { digest } = await service.create({ name: 'a', source: 'a0' }, call());
    for (const none of [digest.slice(0, 7), 'latest-version', `${digest}0`]) {
      const refused = (reason: ErrorReason) => (error: unknown) =>
        failsWith(reason)(error) &&
        /; a digest is 64 hexadecimal digits, of which the first 8 or more/.test(`${error}`);
      await assert.rejects(
        service.update({ name: 'a', pin: true, expectedDigest: none }, call()),
        refused('VERSION_CONFLICT'),
      );
      await assert.rejects(service.update({ name: 'a', digest: none }, call()), refused('VERSION_NOT_FOUND'));
      await assert.rejects(service.delete({ name: 'a', expectedDigest: none }, call()), refused('VERSION_CONFLICT'));
      const targets = [{ adapter: 'a', digest: none }];
      await assert.rejects(service.setAlias({ name: 'live', targets }, call()), refused('VERSION_NOT_FOUND'));
    }
    assert.equal((await service.get({ name: 'a' })).pin, false);
    await service.update({ name: 'a', pin: true, expectedDigest: digest.slice(0, 8).toUpperCase() }, call());
  });

  it('is not made of a name that is not there, where a digest of it is expected', async () => {
    const { service } = managed();
    const { digest } = await managed().service.create({ name: 'a', source: 'a0' }, call());
    for (const replace of [true, false]) {
      const request = { name: 'a', source: 'a0', replace, expectedDigest: digest };
      await assert.rejects(service.create(request, call()), failsWith('ADAPTER_NOT_FOUND'), `replace ${replace}`);
    }
    assert.deepEqual((await service.list({})).adapters, []);
    await service.create({ name: 'a', source: 'a0', replace: true, expectedDigest: '' }, call());
  });

  it('without preload is read but not kept in memory; preload=false drops what is there', async () => {
    const { service, engine } = managed();
    await service.create({ name: 'a', source: 'a0', preload: false }, call());
    const updated = await service.update({ name: 'a', source: 'a1' }, call());
    assert.match(updated.digest, /^[0-9a-f]{64}$/);
    assert.equal(engine.loads, 0);
    await service.update({ name: 'a', pin: true }, call());
    assert.deepEqual([engine.loads, (await service.get({ name: 'a' })).preload], [1, true]);
    await settle();
    await service.update({ name: 'a', pin: false, preload: false }, call());
    await settle();
    assert.equal(engine.loaded.size, 0);
    (await service.acquire('m', select('a'), forever))[0]!.release();
    await service.update({ name: 'a', mergeOptions: { x: '1' } }, call());
    await settle();
    assert.equal(engine.loaded.size, 1, 'a change of something else leaves it loaded');
  });
});

describe('a registration that does not wait', () => {
  it('is listed as loading at once, serves who asks meanwhile, and tells its failure by its state', async () => {
    const world = managed();
    const { service } = world;
    let free = (): void => {};
    world.hold = new Promise((resolve) => {
      free = resolve;
    });
    const info = await service.create({ name: 'a', source: 'a0', synchronous: false }, call());
    assert.equal(info.state, 'loading');
    const asked = service.acquire('m', select('a'), forever);
    free();
    (await asked)[0]!.release();
    assert.equal((await service.get({ name: 'a' })).state, 'ready');
    await assert.rejects(service.create({ name: 'b', source: 'nothing', synchronous: false }, call()), AppError);
    cpSync(join(dir, 'a1'), join(dir, 'cut'), { recursive: true });
    rmSync(join(dir, 'cut', 'adapter_model.safetensors'));
    await service.create({ name: 'cut', source: 'cut', synchronous: false }, call());
    await until(async () => (await service.get({ name: 'cut' })).state === 'failed');
    cpSync(join(dir, 'a1'), join(dir, 'cut'), { recursive: true });
    assert.equal((await service.update({ name: 'cut', source: 'cut' }, call())).state, 'ready', 'it can be mended');
  });
});

describe('a restart', () => {
  it('finds what was stored, loads what is pinned and preloaded, and reads nothing else', async () => {
    const store = new MemoryStore();
    const before = managed({ store }).service;
    await before.create({ name: 'pinned', source: 'a0', pin: true, options: { x: '1' } }, call());
    await before.create({ name: 'lazy', source: 'a1', preload: false }, call());
    await before.create({ name: 'moved', source: 'a2' }, call());
    await before.update({ name: 'moved', source: 'a3' }, call());
    await before.create({ name: 'gone', source: 'a4' }, call());
    await before.delete({ name: 'gone' }, call());
    await before.setAlias({ name: 'live', targets: [{ adapter: 'pinned' }] }, call());
    const { service, reads, engine } = managed({ store, byteBudget: BYTES });
    await service.open('m', []);
    const { adapters } = await service.list({});
    assert.deepEqual(
      adapters.map(({ name, state }) => [name, state]),
      [
        ['lazy', 'registered'],
        ['moved', 'registered'],
        ['pinned', 'ready'],
      ],
    );
    assert.ok(reads() <= 2 && engine.loads === 1, 'the pinned one came first, and took all the room');
    for (const name of ['pinned', 'moved']) {
      const [is, was] = await Promise.all([service.get({ name }), before.get({ name })]);
      assert.deepEqual([is.digest, is.options, is.versions], [was.digest, was.options, was.versions]);
    }
    assert.deepEqual((await service.listAliases({}))[0], (await before.listAliases({}))[0]);
  });

  it('lists what became unusable as failed, and refuses other content', async () => {
    const store = new MemoryStore();
    writeAdapter(join(dir, 'edited'), {}, 40);
    const before = managed({ store }).service;
    for (const name of ['edited', 'a0']) await before.create({ name, source: name }, call());
    writeAdapter(join(dir, 'edited'), {}, 41);
    const { service } = managed({ store });
    const infos = await service.open('m', []);
    assert.deepEqual(
      infos.map(({ name, state }) => [name, state]),
      [
        ['a0', 'ready'],
        ['edited', 'failed'],
      ],
    );
    assert.match(infos[1]!.error!, /have changed since/);
  });

  it('keeps the digest that the first use of a name found', async () => {
    const store = new MemoryStore();
    const before = managed({ store }).service;
    await before.create({ name: 'lazy', source: 'a0', preload: false }, call());
    (await before.acquire('m', select('lazy'), forever))[0]!.release();
    const { digest } = await before.get({ name: 'lazy' });
    await until(async () => (await store.events({ limit: 1 }))[0]!.action === 'read');
    const { service, reads } = managed({ store });
    await service.open('m', []);
    assert.deepEqual([(await service.get({ name: 'lazy' })).digest, reads()], [digest, 0]);
  });

  it('takes folders as they are, but for what was changed or unregistered', async () => {
    const store = new MemoryStore();
    const folder = join(dir, 'start');
    for (const name of ['kept', 'moved', 'pinned', 'removed']) {
      mkdirSync(join(folder, name), { recursive: true });
      writeAdapter(join(folder, name), {}, 50);
    }
    const before = managed({ store }).service;
    await before.open('m', [folder]);
    assert.equal((await store.list('adapter')).records.length, 0, 'what was only found is not stored');
    await before.update({ name: 'moved', source: 'a1' }, call());
    await before.update({ name: 'pinned', pin: true }, call());
    await before.delete({ name: 'removed' }, call());
    writeAdapter(join(folder, 'kept'), {}, 51);
    const { service } = managed({ store });
    await service.open('m', [folder]);
    const { adapters } = await service.list({});
    assert.deepEqual(
      adapters.map(({ name, source, pin, state }) => [name, source, pin, state]),
      [
        ['kept', join(folder, 'kept'), false, 'ready'],
        ['moved', 'a1', false, 'ready'],
        ['pinned', join(folder, 'pinned'), true, 'ready'],
      ],
    );
    await service.create({ name: 'removed', source: join(folder, 'removed') }, call());
  });
});
