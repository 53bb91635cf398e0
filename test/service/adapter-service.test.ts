import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { AppError } from '../../server/errors.js';
import { GOLDEN } from '../adapters/golden-base.js';
import { failsWith } from '../app-error.js';
import { BYTES, call, forever, select, settle, setup, threads } from './adapter-books.js';

describe('creating an adapter', () => {
  it('reads it in a thread, loads it, and tells what it is', async () => {
    const { service, engine } = setup(undefined, { reader: threads });
    const source = `${GOLDEN}adapters/llama/patterns-rslora`;
    const info = await service.create({ name: 'org/fr', source, options: { x: 'y' }, pin: true }, call());
    assert.equal(info.state, 'ready');
    assert.deepEqual(info.ranks, [3, 8]);
    assert.deepEqual(
      info.scalings.map((value) => value.toFixed(3)),
      ['0.707', '2.121', '3.464'],
    );
    assert.deepEqual(info.targetModules, ['k_proj', 'o_proj', 'q_proj', 'v_proj']);
    assert.deepEqual(info.features, ['alpha_pattern', 'lora', 'rank_pattern', 'rslora']);
    assert.deepEqual([info.source, info.pin, info.preload, info.options], [source, true, true, { x: 'y' }]);
    assert.deepEqual([...engine.loaded], [[info.digest, info.bytes]]);
    assert.deepEqual(await service.get({ name: 'org/fr' }), info);
  });

  it('takes a source relative to the model folder', async () => {
    const { service } = setup();
    assert.equal((await service.create({ name: 'a', source: 'a0' }, call())).bytes, BYTES);
  });

  it('registers nothing when anything fails', async () => {
    const { service, engine } = setup();
    for (const [source, expected] of [
      ['broken', 'ADAPTER_INVALID'],
      ['nothing-there', 'ADAPTER_SOURCE_INVALID'],
      ['/', 'ADAPTER_SOURCE_FORBIDDEN'],
      ['s3://bucket/x', 'ADAPTER_SOURCE_FORBIDDEN'],
      [`${GOLDEN}adapters/llama/dora`, 'ADAPTER_UNSUPPORTED'],
      [`${GOLDEN}invalid/adapters/pissa-init`, 'ADAPTER_UNSUPPORTED'],
    ] as const) {
      await assert.rejects(service.create({ name: 'x', source }, call()), failsWith(expected, /"x"/), source);
      await assert.rejects(service.get({ name: 'x' }), failsWith('ADAPTER_NOT_FOUND'));
    }
    await assert.rejects(service.create({ name: 'x', source: 'nothing-there', preload: false }, call()), AppError);
    assert.deepEqual((await service.list({})).adapters, []);
    assert.equal(engine.loaded.size, 0);
    await service.create({ name: 'x', source: 'a0' }, call());
  });

  it('gives everything back when the engine refuses or the client has left', async () => {
    const { service, engine, reader } = setup();
    const { digest } = await service.create({ name: 'probe', source: 'a0' }, call());
    await service.delete({ name: 'probe' }, call());
    await settle();
    engine.failing.add(digest);
    await assert.rejects(service.create({ name: 'x', source: 'a0' }, call()), failsWith('ENGINE_FAILED'));
    const client = new AbortController();
    const read = reader.read.bind(reader);
    reader.read = async (...args) => {
      const result = await read(...args);
      client.abort();
      return result;
    };
    await assert.rejects(service.create({ name: 'x', source: 'a0' }, call(client.signal)), failsWith('CANCELED'));
    await settle();
    assert.deepEqual([engine.loaded.size, engine.bytes, service.residentBytes], [0, 0, 0]);
    await assert.rejects(service.get({ name: 'x' }), failsWith('ADAPTER_NOT_FOUND'));
  });

  it('refuses a name that is taken, also one whose creation is under way', async () => {
    const { service, engine } = setup();
    const results = await Promise.allSettled([1, 2, 3].map(() => service.create({ name: 'a', source: 'a0' }, call())));
    assert.deepEqual(results.map(({ status }) => status).sort(), ['fulfilled', 'rejected', 'rejected']);
    await assert.rejects(service.create({ name: 'a', source: 'a1' }, call()), failsWith('ADAPTER_EXISTS'));
    assert.equal(engine.loads, 1);
  });

  it('refuses names that are not fit, naming the field', async () => {
    const { service } = setup();
    await assert.rejects(service.create({ name: 'a\nb', source: 'a0' }, call()), (error: AppError) => {
      assert.equal(error.reason, 'INVALID_REQUEST');
      assert.equal(error.violations[0]?.field, 'name');
      return true;
    });
  });

  it('under several names holds equal content once', async () => {
    const { service, engine } = setup();
    const infos = await Promise.all(['a0', 'twin'].map((source) => service.create({ name: source, source }, call())));
    assert.equal(infos[0]?.digest, infos[1]?.digest);
    assert.deepEqual([engine.loads, engine.bytes], [1, BYTES]);
    await service.delete({ name: 'a0' }, call());
    await settle();
    assert.equal(engine.loaded.size, 1, 'the twin still names it');
    await service.delete({ name: 'twin' }, call());
    await settle();
    assert.equal(engine.loaded.size, 0);
  });

  it('without preload only registers; the first use loads, once for all who wait', async () => {
    const { service, engine, reader } = setup();
    const info = await service.create({ name: 'lazy', source: 'a0', preload: false }, call());
    assert.deepEqual([info.state, info.digest, info.bytes], ['registered', '', 0]);
    const leased = await Promise.all([1, 2, 3].map(() => service.acquire('m', select('lazy'), forever)));
    assert.deepEqual([reader.reads, engine.loads], [1, 1]);
    const { digest } = await service.get({ name: 'lazy' });
    assert.deepEqual(
      leased.map(([one]) => one?.leases[0]?.digest),
      [digest, digest, digest],
    );
    for (const [one] of leased) one?.release();
    await service.delete({ name: 'lazy' }, call());
    await settle();
    assert.equal(engine.loaded.size, 0);
  });

  it('is refused where the model is served without LoRA', async () => {
    const { service } = setup(undefined, { loraEnabled: false });
    await assert.rejects(service.create({ name: 'a', source: 'a0' }, call()), failsWith('LORA_DISABLED'));
    await assert.rejects(service.acquire('m', select('a'), forever), failsWith('LORA_DISABLED'));
    assert.equal((await service.acquire('m', [[]], forever)).length, 1);
  });
});

describe('listing', () => {
  it('goes by name in pages that inserts and deletes do not shift', async () => {
    const { service } = setup();
    const names = ['b', 'a', 'd', 'c', 'Z', 'é'];
    for (const name of names) await service.create({ name, source: 'a0', preload: false }, call());
    const first = await service.list({ pageSize: 2 });
    assert.deepEqual(
      first.adapters.map(({ name }) => name),
      ['Z', 'a'],
    );
    await service.delete({ name: 'a' }, call());
    await service.create({ name: 'A', source: 'a0', preload: false }, call());
    const rest: string[] = [];
    for (let token = first.nextPageToken; token !== ''; ) {
      const page = await service.list({ pageSize: 3, pageToken: token });
      rest.push(...page.adapters.map(({ name }) => name));
      token = page.nextPageToken;
    }
    assert.deepEqual(rest, ['b', 'c', 'd', 'é']);
    assert.equal((await service.list({ pageSize: 100_000 })).adapters.length, 6);
  });

  it('refuses tokens that are not its own, and negative sizes', async () => {
    const { service } = setup();
    for (const pageToken of ['x', 'eyJhIjoxfQ', Buffer.from('[1,2]').toString('base64url')]) {
      await assert.rejects(service.list({ pageToken }), failsWith('INVALID_REQUEST'));
    }
    await assert.rejects(service.list({ pageSize: -1 }), failsWith('INVALID_REQUEST'));
    await assert.rejects(service.list({ model: 'other' }), failsWith('MODEL_NOT_FOUND'));
  });
});

describe('the service as a whole', () => {
  it('agrees with a model of it, whatever is asked in whatever order', async () => {
    const which = fc.nat(4);
    const step = fc.oneof(
      {
        weight: 3,
        arbitrary: fc
          .record({ op: fc.constant('create' as const), which, preload: fc.boolean(), pin: fc.boolean() })
          // Pinned weights stay loaded, so pin without preload is refused before anything else.
          .map((create) => ({ ...create, pin: create.pin && create.preload })),
      },
      { weight: 2, arbitrary: fc.record({ op: fc.constant('delete' as const), which }) },
      {
        weight: 5,
        arbitrary: fc.record({ op: fc.constant('acquire' as const), which, second: which, wait: fc.boolean() }),
      },
      { weight: 4, arbitrary: fc.record({ op: fc.constant('release' as const), which: fc.nat(30) }) },
      { weight: 1, arbitrary: fc.record({ op: fc.constant('settle' as const) }) },
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 30 }), fc.integer({ min: 1, max: 4 }), async (steps, fits) => {
        const { service, engine } = setup(fits * BYTES);
        const names = new Map<string, boolean>();
        const rows: { digests: readonly string[]; names: readonly string[]; release(): void }[] = [];
        engine.onUnload = (digest) =>
          assert.ok(!rows.some(({ digests }) => digests.includes(digest)), 'a row lost its adapter');
        const pending: Promise<void>[] = [];
        const allowed = (error: unknown, ...reasons: string[]) => {
          assert.ok(error instanceof AppError && reasons.includes(error.reason), String(error));
        };
        for (const one of steps) {
          if (one.op === 'create') {
            const name = `a${one.which}`;
            try {
              await service.create({ name, source: name, preload: one.preload, pin: one.pin && one.preload }, call());
              assert.ok(!names.has(name));
              names.set(name, one.pin);
            } catch (error) {
              allowed(error, names.has(name) ? 'ADAPTER_EXISTS' : 'ADAPTER_MEMORY_EXHAUSTED');
            }
          } else if (one.op === 'delete') {
            const name = `a${one.which}`;
            await service.delete({ name }, call()).then(
              () => assert.ok(names.delete(name)),
              (error: unknown) => {
                allowed(error, 'ADAPTER_NOT_FOUND');
                assert.ok(!names.has(name));
              },
            );
          } else if (one.op === 'acquire') {
            const wanted = [`a${one.which}`, `a${one.second}`];
            const known = wanted.every((name) => names.has(name));
            const asked = service.acquire('m', select(...wanted), forever).then(
              ([row]) => {
                assert.ok(known);
                const digests = row!.leases.map(({ digest }) => digest);
                for (const digest of digests) assert.ok(engine.loaded.has(digest), 'leased, but not loaded');
                rows.push({ digests, names: wanted, release: row!.release });
              },
              (error: unknown) => allowed(error, known ? 'ADAPTER_MEMORY_EXHAUSTED' : 'ADAPTER_NOT_REGISTERED'),
            );
            if (one.wait) await asked;
            else pending.push(asked);
          } else if (one.op === 'release' && rows.length > 0) rows.splice(one.which % rows.length, 1)[0]!.release();
          else await settle();
          assert.ok(engine.peakBytes <= fits * BYTES, 'beyond the budget');
        }
        await Promise.all(pending);
        for (const row of rows.splice(0)) row.release();
        await settle();
        const listed = (await service.list({})).adapters;
        assert.deepEqual(
          listed.map(({ name }) => name),
          [...names.keys()].sort(),
        );
        assert.ok(listed.every(({ runningRows }) => runningRows === 0));
        for (const name of names.keys()) await service.delete({ name }, call());
        await settle();
        assert.deepEqual([engine.loaded.size, engine.bytes, service.residentBytes], [0, 0, 0]);
      }),
      { numRuns: 60 },
    );
  });
});
