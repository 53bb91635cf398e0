import assert from 'node:assert/strict';
import { cpSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { AppError } from '../../server/errors.js';
import { MemoryStore } from '../../server/registry/memory-store.js';
import type { AdapterWatchEvent } from '../../server/service/types.js';
import { writeAdapter } from '../adapters/adapter-files.js';
import { BYTES, call, dir, forever, managed, select, settle } from './managed.js';

function reason(expected: string, message?: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof AppError, String(error));
    assert.equal(error.reason, expected, error.message);
    if (message !== undefined) assert.match(error.message, message);
    return true;
  };
}

/** Waits until a condition holds; for what happens in a later turn. */
async function until(condition: () => Promise<boolean>): Promise<void> {
  for (let turns = 0; !(await condition()); turns += 1) {
    assert.ok(turns < 1000, 'it never happens');
    await settle();
  }
}

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
    await assert.rejects(service.update({ name: 'a', source: 'a1' }, call()), reason('ENGINE_FAILED'));
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
      reason('ADAPTER_INVALID', /have changed/),
    );
    assert.equal((await service.get({ name: 'a' })).digest, second.digest);
    const taken = await service.update({ name: 'a', source: 'moving' }, call());
    assert.equal(taken.versions!.length, 3);
    await assert.rejects(service.update({ name: 'a', digest: '0123456789' }, call()), reason('VERSION_NOT_FOUND'));
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
    for (const one of tries) if (one.status === 'rejected') reason('VERSION_CONFLICT')(one.reason);
    assert.equal((await service.get({ name: 'a' })).versions!.length, 2);
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

describe('an alias', () => {
  it('draws for each input by its shares, and the lease says what it led to', async () => {
    let draws = [0, 0.89, 0.9, 0.999];
    const { service } = managed({ random: () => draws.shift()! });
    const a = await service.create({ name: 'a', source: 'a0' }, call());
    const b = await service.create({ name: 'b', source: 'a1' }, call());
    await service.setAlias({ name: 'live', targets: [{ adapter: 'a', share: 9 }, { adapter: 'b' }] }, call());
    const rows = await service.acquire(
      'm',
      [0, 1, 2, 3].flatMap(() => select('live')),
      forever,
    );
    assert.deepEqual(
      rows.map(({ leases: [lease] }) => [lease!.name, lease!.resolved, lease!.digest]),
      [
        ['live', 'a', a.digest],
        ['live', 'a', a.digest],
        ['live', 'b', b.digest],
        ['live', 'b', b.digest],
      ],
    );
    for (const row of rows) row.release();
    draws = [0];
    await service.update({ name: 'a', source: 'a2' }, call());
    const [row] = await service.acquire('m', select('live'), forever);
    assert.equal(row!.leases[0]!.digest, (await service.get({ name: 'a' })).digest, 'it follows the name');
    row!.release();
  });

  it('keeps a version as long as it leads to it', async () => {
    const { service, engine } = managed();
    const first = await service.create({ name: 'a', source: 'a0' }, call());
    await service.setAlias({ name: 'stable', targets: [{ adapter: 'a', digest: first.digest.slice(0, 9) }] }, call());
    const second = await service.update({ name: 'a', source: 'a1' }, call());
    const [row] = await service.acquire('m', select('stable'), forever);
    assert.equal(row!.leases[0]!.digest, first.digest);
    row!.release();
    await settle();
    assert.equal(engine.loaded.size, 2);
    await service.setAlias({ name: 'stable', targets: [{ adapter: 'a' }] }, call());
    await settle();
    assert.deepEqual([...engine.loaded.keys()], [second.digest]);
    await assert.rejects(service.delete({ name: 'a' }, call()), reason('ADAPTER_IN_USE', /"stable"/));
    await service.deleteAlias({ name: 'stable' }, call());
    await service.delete({ name: 'a' }, call());
    await settle();
    assert.equal(engine.loaded.size, 0);
    await assert.rejects(service.acquire('m', select('stable'), forever), reason('ADAPTER_NOT_REGISTERED'));
  });

  it('shares the names of adapters', async () => {
    const { service } = managed();
    await service.create({ name: 'a', source: 'a0' }, call());
    await service.setAlias({ name: 'live', targets: [{ adapter: 'a' }] }, call());
    await assert.rejects(service.create({ name: 'live', source: 'a1' }, call()), reason('ADAPTER_EXISTS'));
    await assert.rejects(
      service.setAlias({ name: 'a', targets: [{ adapter: 'a' }] }, call()),
      reason('ADAPTER_EXISTS'),
    );
    await assert.rejects(service.update({ name: 'live', pin: true }, call()), reason('ADAPTER_NOT_FOUND', /alias/));
    for (const targets of [[], [{ adapter: 'a', share: 0 }], [{ adapter: 'a', share: Number.NaN }]]) {
      await assert.rejects(service.setAlias({ name: 'x', targets }, call()), reason('INVALID_REQUEST'));
    }
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

describe('two processes on one registry', () => {
  it('see each other’s changes, and one of two that want a name gets it', async () => {
    const store = new MemoryStore();
    const [one, two] = [managed({ store }), managed({ store })];
    for (const { service } of [one, two]) await service.open('m', []);
    const made = await one.service.create({ name: 'a', source: 'a0' }, call());
    await until(async () => (await two.service.list({})).adapters[0]?.state === 'ready');
    assert.equal((await two.service.get({ name: 'a' })).digest, made.digest);
    await two.service.update({ name: 'a', source: 'a1', mergeOptions: { x: '1' } }, call());
    await until(async () => (await one.service.get({ name: 'a' })).source === 'a1');
    await one.service.setAlias({ name: 'live', targets: [{ adapter: 'a' }] }, call());
    await until(async () => (await two.service.listAliases({})).length === 1);
    (await two.service.acquire('m', select('live'), forever))[0]!.release();
    const wanted = [one, two].map(({ service }) => service.create({ name: 'b', source: 'a2' }, call()));
    const results = await Promise.allSettled(wanted);
    assert.deepEqual(results.map(({ status }) => status).sort(), ['fulfilled', 'rejected']);
    await one.service.deleteAlias({ name: 'live' }, call());
    await one.service.delete({ name: 'a' }, call());
    await until(async () => (await two.service.list({})).adapters.length === 1);
    await until(async () => two.engine.loaded.size === 1);
    // Both change one name at once, again and again: neither loses what it was told is done.
    const options = Array.from({ length: 10 }, (_, i) => [`x${i}`, String(i)] as const);
    await Promise.all(
      options.map(([key, value], i) =>
        [one, two][i % 2]!.service.update({ name: 'b', mergeOptions: { [key]: value } }, call()),
      ),
    );
    await until(async () => Object.keys((await one.service.get({ name: 'b' })).options).length === 10);
    for (const { service } of [one, two]) await service.close();
  });
});

describe('a watch', () => {
  const events = (service: ReturnType<typeof managed>['service'], resumeToken?: string) =>
    service.watch({ resumeToken }, call())[Symbol.asyncIterator]();
  const text = (event: AdapterWatchEvent): string => {
    if (event.type === 'changed') return `${event.adapter.name} ${event.adapter.state}`;
    return event.type === 'alias' ? `${event.alias.name} -> ${event.alias.targets[0]!.adapter}` : event.type;
  };

  it('tells of aliases: those there are, and each change', async () => {
    const { service } = managed();
    for (const name of ['a', 'b']) await service.create({ name, source: 'a0', preload: false }, call());
    await service.setAlias({ name: 'live', targets: [{ adapter: 'a' }] }, call());
    const reader = events(service);
    const next = async () => text((await reader.next()).value!);
    assert.deepEqual(
      [await next(), await next(), await next(), await next()],
      [...['a registered', 'b registered', 'live -> a', 'synced']],
    );
    await service.setAlias({ name: 'live', targets: [{ adapter: 'b' }] }, call());
    assert.equal(await next(), 'live -> b');
    await service.deleteAlias({ name: 'live' }, call());
    const { value: gone } = await reader.next();
    assert.ok(gone!.type === 'deleted' && gone!.name === 'live');
    await service.create({ name: 'live', source: 'a1', preload: false }, call());
    assert.equal(await next(), 'live registered');
    await reader.return!();
  });

  it('tells of aliases that another process sets', async () => {
    const store = new MemoryStore();
    const [one, two] = [managed({ store }), managed({ store })];
    for (const { service } of [one, two]) await service.open('m', []);
    await one.service.create({ name: 'a', source: 'a0', preload: false }, call());
    const reader = events(two.service);
    const seen: string[] = [];
    const reading = (async () => {
      for (let step = await reader.next(); !step.done; step = await reader.next()) {
        seen.push(text(step.value));
        if (seen.at(-1) === 'deleted') break;
      }
    })();
    await one.service.setAlias({ name: 'live', targets: [{ adapter: 'a' }] }, call());
    await until(async () => seen.includes('live -> a'));
    await one.service.deleteAlias({ name: 'live' }, call());
    await reading;
    for (const { service } of [one, two]) await service.close();
  });

  it('of a slow reader holds one note for each name, and ends in the newest state', async () => {
    const { service } = managed();
    await service.create({ name: 'a', source: 'a0' }, call());
    const reader = events(service);
    assert.equal(text((await reader.next()).value!), 'a ready');
    assert.equal(text((await reader.next()).value!), 'synced');
    for (let i = 0; i < 50; i += 1) {
      await service.update({ name: 'a', source: `a${1 + (i % 4)}` }, call());
      await service.create({ name: 'b', source: 'a0', preload: false }, call());
      await service.delete({ name: 'b' }, call());
    }
    const { value: first } = await reader.next();
    const { value: second } = await reader.next();
    assert.ok(first!.type === 'changed' && second!.type === 'deleted');
    assert.equal(first!.adapter.digest, (await service.get({ name: 'a' })).digest);
    await reader.return!();
    assert.equal(service.watchers, 0);
  });

  it('goes on from a token; a foreign token begins anew', async () => {
    const { service } = managed();
    for (const name of ['a', 'b']) await service.create({ name, source: 'a0', preload: false }, call());
    const reader = events(service);
    let last: AdapterWatchEvent;
    do last = (await reader.next()).value!;
    while (last.type !== 'synced');
    await reader.return!();
    await service.delete({ name: 'a' }, call());
    const again = events(service, last.resumeToken);
    assert.equal(text((await again.next()).value!), 'deleted');
    const synced = (await again.next()).value!;
    assert.ok(synced.type === 'synced' && !synced.snapshot);
    await again.return!();
    const anew = events(service, 'abcdef01-1');
    assert.equal(text((await anew.next()).value!), 'b registered');
    const whole = (await anew.next()).value!;
    assert.ok(whole.type === 'synced' && whole.snapshot);
    await anew.return!();
    await assert.rejects(events(service, 'nonsense').next(), reason('INVALID_REQUEST'));
  });
});
