/** Changes as others see them: another process on the same registry, and watches. */
import assert from 'node:assert/strict';
import { renameSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { AppError } from '../../server/errors.js';
import { MemoryStore } from '../../server/registry/memory-store.js';
import { AdapterJournal } from '../../server/service/adapter-journal.js';
import type { AdapterWatchEvent } from '../../server/service/types.js';
import { writeAdapter } from '../adapters/adapter-files.js';
import { failsWith } from '../app-error.js';
import { sqliteDatabase } from '../registry/stores.js';
import { eventually } from '../rpc/start-server.js';
import { BYTES, call, dir, forever, managed, select, settle, until } from './managed.js';

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

  it('tells of an adapter that fails when it is used, and that it is well again', async () => {
    const folder = join(dir, 'watched');
    writeAdapter(folder, {}, 60);
    const { service } = managed();
    await service.create({ name: 'a', source: 'watched', preload: false }, call());
    const reader = events(service);
    const next = async () => text((await reader.next()).value!);
    assert.deepEqual([await next(), await next()], ['a registered', 'synced']);
    const aside = join(dir, 'aside');
    renameSync(folder, aside);
    const seen: string[] = [];
    const reading = (async () => {
      while (seen.at(-1) !== 'a ready') seen.push(await next());
    })();
    await settle();
    await assert.rejects(service.acquire('m', select('a'), forever), failsWith('ADAPTER_FAILED'));
    await until(async () => seen.at(-1) === 'a failed');
    renameSync(aside, folder);
    (await service.acquire('m', select('a'), forever))[0]!.release();
    await reading;
    await service.close();
  });

  it('tells that a name is usable when the weights come for another name of the same content', async () => {
    const { service } = managed({ byteBudget: BYTES });
    for (const name of ['a', 'b']) await service.create({ name, source: 'a0' }, call());
    await service.create({ name: 'c', source: 'a1' }, call());
    assert.deepEqual(
      (await service.list({})).adapters.map(({ state }) => state),
      ['registered', 'registered', 'ready'],
    );
    const reader = events(service);
    const told = new Map<string, string>();
    void (async () => {
      for (let step = await reader.next(); !step.done; step = await reader.next()) {
        if (step.value.type === 'changed') told.set(step.value.adapter.name, step.value.adapter.state);
      }
    })().catch(() => {});
    await until(async () => told.size === 3);
    (await service.acquire('m', select('a'), forever))[0]!.release();
    await until(async () => told.get('a') === 'ready');
    await until(async () => told.get('b') === 'ready');
    await service.close();
  });

  it('tells of the revision with which the digest of an adapter was kept when it was first read', async () => {
    const database = await sqliteDatabase();
    const store = await database.open();
    const { service } = managed({ store });
    const made = await service.create({ name: 'a', source: 'a0', preload: false }, call());
    const reader = events(service);
    let told = 0;
    void (async () => {
      for (let step = await reader.next(); !step.done; step = await reader.next()) {
        if (step.value.type === 'changed') told = step.value.adapter.revision;
      }
    })().catch(() => {});
    (await service.acquire('m', select('a'), forever))[0]!.release();
    await eventually(async () => (await service.get({ name: 'a' })).revision > made.revision, 'the digest is kept');
    await eventually(async () => told === (await service.get({ name: 'a' })).revision, 'the watch tells of it');
    await service.close();
    await store.close();
    await database.drop();
  });

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

  it('ends where its reader lags behind more deletions than are kept, and the next one begins anew', async () => {
    const names = new Set(['stays']);
    const alias = (name: string) => ({ model: 'm', name, targets: [], revision: 1 }) as never;
    const journal = new AdapterJournal({
      has: (_model, name) => names.has(name),
      info: (_model, name) => (names.has(name) ? { alias: alias(name) } : undefined),
    });
    const watch = (token: string) =>
      journal.watch(undefined, token, () => [...names].map((name) => ({ model: 'm', name })), call().signal);
    const [slow, quick] = [watch(''), watch('')];
    const seen: string[] = [];
    const reading = (async () => {
      for await (const { type } of quick) seen.push(type);
    })();
    await slow.next();
    const { value: synced } = await slow.next();
    assert.equal(synced!.type, 'synced');
    for (let i = 0; i < 25_000; i += 1) {
      names.add(`n${i}`);
      journal.changed('m', `n${i}`);
      names.delete(`n${i}`);
      journal.changed('m', `n${i}`);
      if (i % 100 === 0) await settle();
    }
    await assert.rejects(async () => {
      for (let reads = 0; reads < 50_000; reads += 1) await slow.next();
    }, failsWith('SLOW_CONSUMER'));
    const again = watch(synced!.resumeToken);
    assert.equal((await again.next()).value!.type, 'alias');
    const { value: anew } = await again.next();
    assert.ok(anew?.type === 'synced' && anew.snapshot);
    await until(async () => seen.length === 25_002);
    journal.close(new AppError('SHUTTING_DOWN', 'the end'));
    await assert.rejects(reading, failsWith('SHUTTING_DOWN'));
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
    await assert.rejects(events(service, 'nonsense').next(), failsWith('INVALID_REQUEST'));
  });
});
