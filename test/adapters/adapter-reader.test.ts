import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { getPriority, platform, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { createAdapterReader } from '../../server/adapters/adapter-reader.js';
import { prepareAdapter, type ReadRequest } from '../../server/adapters/prepare-adapter.js';
import { GOLDEN, goldenBase } from './golden-base.js';

const reader = createAdapterReader({ idleMs: 100 });
after(() => reader.close());
const ALL = new Set(
  (
    'lora rslora rank_pattern alpha_pattern lm_head dora bias lora_bias replaced_linear replaced_norm ' +
    'replaced_embedding embedding_lora trained_tokens trained_head_rows alora'
  ).split(' '),
);
const request = (path: string, supportedFeatures: ReadonlySet<string> = ALL): ReadRequest => ({
  folder: `${GOLDEN}${path}`,
  roots: [GOLDEN],
  supportedFeatures,
});

describe('reading in threads', () => {
  it('gives what reading in this thread gives, base weights included', async () => {
    const base = await goldenBase('llama');
    const tied = await goldenBase('llama-rope3');
    const jobs = [
      ...['qv-r4', 'dora', 'embed', 'save-lmhead', 'save-embed-norm', 'alora'].map(
        (name) => [`adapters/llama/${name}`, base] as const,
      ),
      ['adapters/llama-rope3/tokens-tied', tied] as const,
    ];
    const there = await Promise.all(jobs.map(([path, on]) => reader.read(request(path), on)));
    for (const [i, [path, on]] of jobs.entries())
      assert.deepEqual(there[i], await prepareAdapter(request(path), on), path);
  });

  it('binds to the base that is asked for, whichever was the last one', async () => {
    const one = createAdapterReader({ threads: 1 });
    const [llama, tied] = [await goldenBase('llama'), await goldenBase('llama-rope3')];
    const renamed = { ...llama, nameOrPath: 'another' };
    const path = 'adapters/llama/qv-r4';
    const warnings = async (base: typeof llama) => (await one.read(request(path), base)).summary.warnings.join();
    assert.match(await warnings(renamed), /served is "another"/);
    assert.doesNotMatch(await warnings(llama), /served is "another"/);
    await one.read(request('adapters/llama-rope3/tokens-tied'), tied);
    assert.match(await warnings(renamed), /served is "another"/);
    await one.close();
  });

  it('knows the form of an adapter it has read, and notices numbers that are others', async () => {
    const base = await goldenBase('llama');
    const one = createAdapterReader({ threads: 1 });
    const place = mkdtempSync(join(tmpdir(), 'loramux-again-'));
    const folder = join(place, 'adapter');
    cpSync(`${GOLDEN}adapters/llama/qv-r4`, folder, { recursive: true });
    const wanted = { ...request(''), folder, roots: [place] };
    const file = join(folder, 'adapter_model.safetensors');
    const whole = readFileSync(file);
    const first = await one.read(wanted, base);
    assert.deepEqual(await one.read(wanted, base), await prepareAdapter(wanted, base));
    const other = Buffer.from(whole);
    other[other.length - 4]! ^= 1;
    writeFileSync(file, other);
    const second = await one.read(wanted, base);
    assert.notEqual(second.summary.digest, first.summary.digest);
    assert.deepEqual(second, await prepareAdapter(wanted, base));
    other.fill(0xff, other.length - 8);
    writeFileSync(file, other);
    await assert.rejects(one.read(wanted, base), { reason: 'ADAPTER_INVALID', message: /must be finite/ });
    writeFileSync(file, whole.subarray(0, whole.length - 4));
    await assert.rejects(one.read(wanted, base), { reason: 'ADAPTER_INVALID', message: /cut off/ });
    writeFileSync(file, whole);
    assert.equal((await one.read(wanted, base)).summary.digest, first.summary.digest);
    await one.close();
    rmSync(place, { recursive: true });
  });

  it('leaves the cores to whoever answers', {
    skip:
      platform() !== 'linux' ? 'priorities of threads are Linux' : getPriority() >= 10 && 'this process yields already',
  }, async () => {
    await reader.read(request('adapters/llama/qv-r4'), await goldenBase('llama'));
    const niceness = readdirSync('/proc/self/task').map((task) =>
      // The 19th field of the file; the second one, in brackets, may hold spaces.
      Number(readFileSync(`/proc/self/task/${task}/stat`, 'utf8').split(') ')[1]!.split(' ')[16]),
    );
    const own = getPriority();
    assert.ok(
      niceness.some((nice) => nice > own),
      'a reading thread yields',
    );
    assert.ok(niceness.filter((nice) => nice === own).length > 1, 'the others do not');
  });

  it('carries refusals over with reason, message and facts', async () => {
    const base = await goldenBase('llama');
    await assert.rejects(reader.read(request('invalid/adapters/nan-weights'), base), {
      reason: 'ADAPTER_INVALID',
      message: /element 48 is NaN/,
    });
    await assert.rejects(reader.read(request('adapters/llama/dora', new Set(['lora'])), base), {
      reason: 'ADAPTER_UNSUPPORTED',
      message: /uses dora, which the engine does not apply/,
      metadata: { features: 'dora' },
    });
  });

  it('fails when the base cannot be read, and goes on with the next', async () => {
    const base = await goldenBase('llama');
    const broken = { ...base, readWeight: async () => Promise.reject(new Error('disk on fire')) };
    await assert.rejects(reader.read(request('adapters/llama/dora'), broken), { reason: 'INTERNAL' });
    const { summary } = await reader.read(request('adapters/llama/dora'), base);
    assert.deepEqual(summary.targetModules, ['down_proj', 'q_proj', 'v_proj']);
  });

  it('lets nobody wait for ever behind an adapter that takes long', async () => {
    const base = await goldenBase('llama');
    const pair = createAdapterReader({ patienceMs: 1 });
    let go: (values: Float32Array) => void = () => {};
    const slow = { ...base, readWeight: () => new Promise<Float32Array>((resolve) => (go = resolve)) };
    const first = pair.read(request('adapters/llama/dora'), slow);
    first.catch(() => {});
    const { summary } = await pair.read(request('adapters/llama/qv-r4'), base);
    assert.deepEqual(summary.ranks, [4]);
    go(new Float32Array(0));
    await pair.close();
    await assert.rejects(first, { reason: 'INTERNAL' });
  });

  it('goes on after an adapter that was given up halfway', async () => {
    const base = await goldenBase('llama');
    const one = createAdapterReader({ threads: 1 });
    const good = await one.read(request('adapters/llama/all-r8'), base);
    await assert.rejects(one.read(request('invalid/adapters/nan-weights'), base), { reason: 'ADAPTER_INVALID' });
    assert.equal((await one.read(request('adapters/llama/all-r8'), base)).summary.digest, good.summary.digest);
    await one.close();
  });

  it('does not give a job to an idle thread that is being ended', async () => {
    const base = await goldenBase('llama');
    const hasty = createAdapterReader({ idleMs: 1, threads: 1 });
    for (let round = 0; round < 3; round += 1) {
      await hasty.read(request('adapters/llama/qv-r4'), base);
      // Behind the thread's own timer, and before the thread is gone.
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await hasty.close();
  });

  it('refuses work once closed', async () => {
    const closed = createAdapterReader();
    await closed.close();
    await assert.rejects(closed.read(request('adapters/llama/qv-r4'), await goldenBase('llama')), {
      reason: 'SHUTTING_DOWN',
    });
  });
});
