/** Engines by what they run: who shares a load, and who gets another. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { LoadModelOptions } from '../../server/service/load-model.js';
import { ModelPool } from '../../server/service/model-pool.js';
import { ModelUses } from '../../server/service/model-uses.js';
import { memoryModel } from './memory-model.js';

const OPTIONS = { name: 'm', path: '/', loraEnabled: true } as LoadModelOptions;

describe('the pool of engines', () => {
  it('loads a model anew for whoever asks while a load that nobody wants any more comes to its end', async () => {
    let loads = 0;
    let ended = () => {};
    const pool = new ModelPool(
      async ({ name }, signal) => {
        loads += 1;
        if (loads > 1) return memoryModel(name);
        await new Promise<void>((resolve) => {
          ended = resolve;
        });
        throw signal.reason;
      },
      new ModelUses(),
      0,
    );
    const leaves = new AbortController();
    const first = pool.lease(OPTIONS, leaves.signal);
    leaves.abort(new Error('unregistered'));
    await assert.rejects(first, /unregistered/);
    const second = pool.lease(OPTIONS, new AbortController().signal);
    ended();
    assert.equal((await second).model.info.name, 'm');
    assert.equal(loads, 2);
    assert.equal(pool.size, 1);
    await (await second).release();
    assert.equal(pool.size, 0);
  });

  it('tells engines that run the same one after the other apart: the second has none of the adapters of the first', async () => {
    const pool = new ModelPool(async ({ name }) => memoryModel(name), new ModelUses(), 0);
    const { signal } = new AbortController();
    const first = await pool.lease(OPTIONS, signal);
    const other = await pool.lease({ ...OPTIONS, name: 'n' }, signal);
    assert.equal(other.key, first.key);
    await first.release();
    await other.release();
    const second = await pool.lease(OPTIONS, signal);
    assert.notEqual(second.key, first.key);
    await second.release();
  });
});
