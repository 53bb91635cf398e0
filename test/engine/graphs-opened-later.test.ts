/** Graphs that open after the start are of the same weights, or do not open. */
import assert from 'node:assert/strict';
import { copyFileSync, cpSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { readAdapterFolder } from '../../server/adapters/read-adapter.js';
import { openBackend } from '../../server/engine/open-backend.js';
import { BASE_ROW, combine } from '../../server/engine/row-adapter.js';
import { openModelFolder } from '../../server/model/model-folder.js';
import { adapterBaseOf } from '../../server/model/module-table.js';
import { GOLDEN } from './golden-model.js';

describe('graphs opened later', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'loramux-later-'));
  cpSync(`${GOLDEN}models/llama`, dir, { recursive: true });
  const folder = await openModelFolder(dir);
  after(async () => {
    await folder.close();
    rmSync(dir, { recursive: true });
  });
  const adapter = await readAdapterFolder(`${GOLDEN}adapters/llama/all-r8`, adapterBaseOf(folder));
  const open = () => openBackend(folder, { dtype: 'fp32', threads: 1, lora: true });
  const ids = [3, 70, 11, 42];
  const logits = async (backend: Awaited<ReturnType<typeof open>>, row = BASE_ROW) =>
    (await backend.prefill(ids, 0, backend.createStore(1, 32), row, [ids.length - 1])).slice();
  const adapted = combine([{ adapter, weight: 1 }]);

  test('an adapter opens the graph that it needs, unless that is open already', async () => {
    const [lazy, ahead] = [await open(), await open()];
    await assert.rejects(logits(lazy, adapted), /lora graph/);
    await lazy.load(adapter);
    assert.equal(await ahead.openAhead!(), true, 'even groups of rows');
    assert.equal(await ahead.openAhead!(), true, 'pieces: the weights of this model are few');
    assert.equal(await ahead.openAhead!(), false);
    assert.deepEqual(await logits(lazy, adapted), await logits(ahead, adapted));
    assert.notDeepEqual(await logits(lazy, adapted), await logits(lazy));
  });

  test('are refused once the weight files were replaced; what is open goes on', async () => {
    const backend = await open();
    const before = await logits(backend);
    const weights = readdirSync(dir).find((name) => name.endsWith('.safetensors'))!;
    copyFileSync(join(dir, weights), join(dir, 'other'));
    renameSync(join(dir, 'other'), join(dir, weights));
    await assert.rejects(backend.load(adapter), /have changed since the model was opened; load it again/);
    await assert.rejects(backend.openAhead!(), /have changed/);
    assert.deepEqual(await logits(backend), before);
  });
});
