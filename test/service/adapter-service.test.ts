import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { type AdapterReader, createAdapterReader } from '../../server/adapters/adapter-reader.js';
import { prepareAdapter } from '../../server/adapters/prepare-adapter.js';
import { validateAdapter } from '../../server/adapters/validate-adapter.js';
import { AppError } from '../../server/errors.js';
import { type Adapters, createAdapterService } from '../../server/service/adapter-service.js';
import type { CallContext } from '../../server/service/types.js';
import { pair, writeAdapter } from '../adapters/adapter-files.js';
import { GOLDEN, goldenBase } from '../adapters/golden-base.js';
import { MemoryEngine } from '../adapters/memory-engine.js';

const dir = mkdtempSync(join(tmpdir(), 'adapter-service-'));
const threads = createAdapterReader({ idleMs: 100 });
after(async () => {
  await threads.close();
  rmSync(dir, { recursive: true });
});
const base = await goldenBase('llama');
const FEATURES = new Set(['lora', 'rslora', 'rank_pattern', 'alpha_pattern']);
const call = (signal = new AbortController().signal): CallContext => ({ requestId: 'test', signal });
const forever = new AbortController().signal;
const select = (...names: string[]) => [names.map((name) => ({ name, weight: 1 }))];

/** Reads in this thread and counts; otherwise the real thing. */
function inThread(): AdapterReader & { reads: number } {
  return {
    reads: 0,
    async read(request, on) {
      this.reads += 1;
      return prepareAdapter(request, on);
    },
    validate: validateAdapter,
    async close() {},
  };
}

interface Setup {
  readonly service: Adapters;
  readonly engine: MemoryEngine;
  readonly reader: AdapterReader & { reads: number };
  readonly logged: string[];
}

function setup(
  byteBudget?: number,
  options: { loraEnabled?: boolean; reader?: AdapterReader; roomWaitMs?: number } = {},
): Setup {
  const engine = new MemoryEngine();
  const reader = inThread();
  const logged: string[] = [];
  const write = (_: object, message: string) => void logged.push(message);
  const service = createAdapterService({
    models: new Map([
      ['m', { base, engine, modelDir: dir, loraEnabled: options.loraEnabled ?? true, supportedFeatures: FEATURES }],
    ]),
    allowedRoots: [dir, GOLDEN],
    byteBudget,
    log: { info: write, warn: write },
    reader: options.reader ?? reader,
    // Without patience, a refusal shows at once what finds no room.
    roomWaitMs: options.roomWaitMs ?? 0,
    // All adapters cost the same to load again, so that only their use decides who leaves.
    now: () => 0,
  });
  return { service, engine, reader, logged };
}

/** Adapters `a0`, `a1`, ... of 1536 bytes each, with different weights; `twin` has those of `a0`. */
const BYTES = 2 * 2 * (48 + 48) * 4;
for (let i = 0; i < 5; i += 1) writeAdapter(join(dir, `a${i}`), {}, 1 + i);
cpSync(join(dir, 'a0'), join(dir, 'twin'), { recursive: true });
writeAdapter(join(dir, 'broken'), { tensors: pair('model.layers.0.self_attn.q_proj', 2, 48, 48) });

/** Lets releases and unloads settle. */
async function settle(): Promise<void> {
  for (let i = 0; i < 6; i += 1) await turn();
}

function reason(expected: string, message?: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof AppError, String(error));
    assert.equal(error.reason, expected, error.message);
    if (message !== undefined) assert.match(error.message, message);
    return true;
  };
}

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
      await assert.rejects(service.create({ name: 'x', source }, call()), reason(expected, /"x"/), source);
      await assert.rejects(service.get({ name: 'x' }), reason('ADAPTER_NOT_FOUND'));
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
    await assert.rejects(service.create({ name: 'x', source: 'a0' }, call()), reason('ENGINE_FAILED'));
    const client = new AbortController();
    const read = reader.read.bind(reader);
    reader.read = async (...args) => {
      const result = await read(...args);
      client.abort();
      return result;
    };
    await assert.rejects(service.create({ name: 'x', source: 'a0' }, call(client.signal)), reason('CANCELED'));
    await settle();
    assert.deepEqual([engine.loaded.size, engine.bytes, service.residentBytes], [0, 0, 0]);
    await assert.rejects(service.get({ name: 'x' }), reason('ADAPTER_NOT_FOUND'));
  });

  it('refuses a name that is taken, also one whose creation is under way', async () => {
    const { service, engine } = setup();
    const results = await Promise.allSettled([1, 2, 3].map(() => service.create({ name: 'a', source: 'a0' }, call())));
    assert.deepEqual(results.map(({ status }) => status).sort(), ['fulfilled', 'rejected', 'rejected']);
    await assert.rejects(service.create({ name: 'a', source: 'a1' }, call()), reason('ADAPTER_EXISTS'));
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
    await assert.rejects(service.create({ name: 'a', source: 'a0' }, call()), reason('LORA_DISABLED'));
    await assert.rejects(service.acquire('m', select('a'), forever), reason('LORA_DISABLED'));
    assert.equal((await service.acquire('m', [[]], forever)).length, 1);
  });
});

describe('leases', () => {
  it('name every unknown adapter, and near names', async () => {
    const { service } = setup();
    for (const name of ['french', 'german']) await service.create({ name, source: 'a0' }, call());
    await assert.rejects(
      service.acquire('m', [...select('frech'), [], ...select('german', 'zzzzzzzz')], forever),
      (error: AppError) => {
        assert.equal(error.reason, 'ADAPTER_NOT_REGISTERED');
        assert.deepEqual(error.metadata, { adapter: 'frech,zzzzzzzz', model: 'm', near: 'french' });
        return true;
      },
    );
    assert.equal((await service.get({ name: 'german' })).runningRows, 0, 'nothing was leased');
    await assert.rejects(service.acquire('other', [[]], forever), reason('MODEL_NOT_FOUND'));
  });

  it('carry digest and weight in the order of the request, and count running rows', async () => {
    const { service } = setup();
    const one = await service.create({ name: 'one', source: 'a0' }, call());
    const two = await service.create({ name: 'two', source: 'a1' }, call());
    const selection = [
      { name: 'two', weight: -0.5 },
      { name: 'one', weight: 2 },
      { name: 'two', weight: 1 },
    ];
    const [mixed, plain] = await service.acquire('m', [selection, []], forever);
    assert.deepEqual(
      mixed?.leases.map(({ name, digest, weight }) => [name, digest, weight]),
      [
        ['two', two.digest, -0.5],
        ['one', one.digest, 2],
        ['two', two.digest, 1],
      ],
    );
    assert.deepEqual(plain?.leases, []);
    assert.equal((await service.get({ name: 'two' })).runningRows, 1);
    mixed?.release();
    mixed?.release();
    const info = await service.get({ name: 'two' });
    assert.equal(info.runningRows, 0);
    assert.ok(info.lastUsedAt !== undefined);
  });

  it('keep a deleted adapter until the last row has ended; new requests no longer find it', async () => {
    const { service, engine } = setup();
    const { digest } = await service.create({ name: 'a', source: 'a0' }, call());
    const [row] = await service.acquire('m', select('a'), forever);
    const deleted = await service.delete({ name: 'a' }, call());
    assert.deepEqual([deleted.state, deleted.runningRows], ['deleting', 1]);
    await assert.rejects(service.acquire('m', select('a'), forever), reason('ADAPTER_NOT_REGISTERED'));
    await assert.rejects(service.delete({ name: 'a' }, call()), reason('ADAPTER_NOT_FOUND'));
    await settle();
    assert.ok(engine.loaded.has(digest));
    const again = await service.create({ name: 'a', source: 'a1' }, call());
    assert.notEqual(again.digest, digest);
    row?.release();
    await settle();
    assert.deepEqual([...engine.loaded.keys()], [again.digest]);
  });

  it('load again what was evicted, and refuse what cannot fit with the numbers', async () => {
    const { service, engine } = setup(2 * BYTES);
    for (const name of ['a0', 'a1', 'a2']) await service.create({ name, source: name }, call());
    assert.equal((await service.get({ name: 'a0' })).state, 'registered', 'evicted, not forgotten');
    const [row] = await service.acquire('m', select('a0', 'a2'), forever);
    await assert.rejects(service.acquire('m', select('a1'), forever), (error: AppError) => {
      assert.equal(error.reason, 'ADAPTER_MEMORY_EXHAUSTED');
      const { needed, used, budget } = error.metadata;
      assert.deepEqual([needed, used, budget], [String(BYTES), String(2 * BYTES), String(2 * BYTES)]);
      return true;
    });
    await assert.rejects(service.acquire('m', select('a0', 'a1', 'a2'), forever), reason('ADAPTER_MEMORY_EXHAUSTED'));
    row?.release();
    (await service.acquire('m', select('a1'), forever))[0]?.release();
    await settle();
    assert.ok(engine.peakBytes <= 2 * BYTES);
    assert.equal((await service.get({ name: 'a1' })).state, 'ready');
  });

  it('wait for room that other rows use, and read nothing meanwhile', async () => {
    const { service, engine, reader } = setup(2 * BYTES, { roomWaitMs: 30_000 });
    for (const name of ['a0', 'a1', 'a2']) await service.create({ name, source: name }, call());
    const [first, second] = await service.acquire('m', [...select('a0'), ...select('a1')], forever);
    const { reads } = reader;
    let got = false;
    const waiting = service.acquire('m', select('a2'), forever).then((rows) => {
      got = true;
      return rows;
    });
    const held = await service.acquire('m', select('a0'), forever);
    await settle();
    assert.deepEqual([got, reader.reads], [false, reads], 'rows of adapters that are there are not held back');
    second!.release();
    for (const { release } of await waiting) release();
    assert.ok(engine.peakBytes <= 2 * BYTES);
    for (const { release } of [first!, ...held]) release();
  });

  it('never wait for each other, however many adapters each needs', async () => {
    const { service, engine } = setup(3 * BYTES, { roomWaitMs: 30_000 });
    for (let i = 0; i < 5; i += 1) await service.create({ name: `a${i}`, source: `a${i}`, preload: false }, call());
    const set = fc.uniqueArray(fc.nat(4), { minLength: 1, maxLength: 3 });
    await fc.assert(
      fc.asyncProperty(fc.array(set, { maxLength: 8 }), async (sets) => {
        const use = async (ids: readonly number[]) => {
          const rows = await service.acquire('m', select(...ids.map((i) => `a${i}`)), forever);
          await turn();
          for (const { release } of rows) release();
        };
        await Promise.all(sets.map(use));
      }),
      { numRuns: 50 },
    );
    assert.ok(engine.peakBytes <= 3 * BYTES);
    const all = service.acquire('m', select('a0', 'a1', 'a2', 'a3'), forever);
    await assert.rejects(all, reason('ADAPTER_MEMORY_EXHAUSTED'), 'what can never fit is not waited for');
  });

  it('refuse pin without preload, and register nothing', async () => {
    const { service } = setup();
    await assert.rejects(
      service.create({ name: 'a', source: 'a0', pin: true, preload: false }, call()),
      reason('INVALID_REQUEST', /pin/),
    );
    assert.deepEqual((await service.list({})).adapters, []);
  });

  it('never evict what is pinned', async () => {
    const { service } = setup(2 * BYTES);
    await service.create({ name: 'pinned', source: 'a0', pin: true }, call());
    for (const name of ['a1', 'a2', 'a3']) await service.create({ name, source: name }, call());
    assert.equal((await service.get({ name: 'pinned' })).state, 'ready');
  });

  it('refuse an adapter whose files changed since it was registered', async () => {
    writeAdapter(join(dir, 'changing'), {}, 20);
    const { service } = setup(BYTES);
    await service.create({ name: 'changing', source: 'changing' }, call());
    await service.create({ name: 'other', source: 'a1' }, call());
    writeAdapter(join(dir, 'changing'), {}, 21);
    const asked = () => service.acquire('m', select('changing'), forever);
    await assert.rejects(asked(), reason('ADAPTER_FAILED', /changed since it was registered/));
    const info = await service.get({ name: 'changing' });
    assert.equal(info.state, 'failed');
    assert.match(info.error ?? '', /changed/);
  });

  it('end early for a client that leaves, and leave nothing leased', async () => {
    const { service, engine } = setup();
    await service.create({ name: 'lazy', source: 'a0', preload: false }, call());
    const client = new AbortController();
    const asked = service.acquire('m', select('lazy'), client.signal);
    client.abort();
    await assert.rejects(asked, reason('CANCELED'));
    while (engine.loads === 0) await turn();
    await settle();
    await service.delete({ name: 'lazy' }, call());
    await settle();
    assert.equal(engine.loaded.size, 0, 'no lease is left to keep it');
  });
});

describe('a directory of adapters at start', () => {
  const adapters = join(dir, 'adapters');
  mkdirSync(adapters);
  for (const name of ['a0', 'a1', 'broken']) cpSync(join(dir, name), join(adapters, name), { recursive: true });
  writeFileSync(join(adapters, 'README.md'), '');

  it('is listed with what failed and why; what failed is not used', async () => {
    const { service, logged } = setup();
    const infos = await service.loadDirectory('m', adapters);
    assert.deepEqual(
      infos.map(({ name, state }) => [name, state]),
      [
        ['a0', 'ready'],
        ['a1', 'ready'],
        ['broken', 'failed'],
      ],
    );
    assert.match(infos[2]?.error ?? '', /no lora_A for model\.layers\.1/);
    await assert.rejects(service.acquire('m', select('broken'), forever), reason('ADAPTER_FAILED', /no lora_A/));
    assert.ok(logged.some((line) => line.includes('ignored')));
    assert.deepEqual(await service.loadDirectory('m', join(dir, 'none')), []);
    await service.delete({ name: 'broken' }, call());
    await service.create({ name: 'broken', source: 'a2' }, call());
  });

  it('is loaded while the budget lasts; the rest loads at first use', async () => {
    const { service, engine } = setup(BYTES);
    const infos = await service.loadDirectory('m', adapters);
    assert.deepEqual(infos.map(({ state }) => state).sort(), ['failed', 'ready', 'registered']);
    assert.ok(infos.every(({ state, digest }) => state === 'failed' || digest !== ''));
    for (const name of ['a0', 'a1']) (await service.acquire('m', select(name), forever))[0]?.release();
    assert.ok(engine.peakBytes <= BYTES);
  });

  it('may hold links only to where adapters may be read from', async () => {
    const outside = mkdtempSync(join(tmpdir(), 'adapter-outside-'));
    const linked = join(dir, 'linked');
    mkdirSync(linked);
    writeAdapter(join(outside, 'x'));
    symlinkSync(join(dir, 'a0'), join(linked, 'inside'));
    symlinkSync(join(outside, 'x'), join(linked, 'outside'));
    const infos = await setup().service.loadDirectory('m', linked);
    assert.deepEqual(
      infos.map(({ name, state }) => [name, state]),
      [
        ['inside', 'ready'],
        ['outside', 'failed'],
      ],
    );
    assert.match(infos[1]?.error ?? '', /symbolic link/);
    rmSync(outside, { recursive: true });
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
      await assert.rejects(service.list({ pageToken }), reason('INVALID_REQUEST'));
    }
    await assert.rejects(service.list({ pageSize: -1 }), reason('INVALID_REQUEST'));
    await assert.rejects(service.list({ model: 'other' }), reason('MODEL_NOT_FOUND'));
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
