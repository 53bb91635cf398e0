/** Files of others that are no files: everything that reads one says so, and nothing waits. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { createAdapterReader } from '../server/adapters/adapter-reader.js';
import { propertiesOf } from '../server/config/model-properties.js';
import { servingEnvironment } from '../server/config/serving-env.js';
import { findConverted, keepConverted } from '../server/engine/converted-weights.js';
import { openModelFolder } from '../server/model/model-folder.js';
import { damageWithin } from '../server/registry/wal-damage.js';
import { readRegular, readRegularSync } from '../server/regular-file.js';
import { FolderFiles } from '../server/text/text-files.js';
import { goldenBase } from './adapters/golden-base.js';
import { GOLDEN } from './engine/golden-model.js';

const dir = mkdtempSync(join(tmpdir(), 'loramux-regular-'));
after(() => rmSync(dir, { recursive: true }));

/** Puts a FIFO that nobody writes to at the path, in place of what is there. */
function fifo(...path: string[]): string {
  const place = join(dir, ...path);
  rmSync(place, { force: true });
  assert.equal(spawnSync('mkfifo', [place]).status, 0);
  return place;
}

function copy(from: string, name: string): string {
  const folder = join(dir, name);
  cpSync(`${GOLDEN}${from}`, folder, { recursive: true });
  return folder;
}

describe('what is no file is told, not waited for', {
  skip: process.platform === 'win32' ? 'there are no FIFOs' : false,
}, () => {
  test('a FIFO and a device without end', async () => {
    const pipe = fifo('pipe');
    const device = join(dir, 'device');
    symlinkSync('/dev/zero', device);
    for (const path of [pipe, device]) {
      await assert.rejects(readRegular(path), /not a regular file/);
      assert.throws(() => readRegularSync(path), /not a regular file/);
    }
    assert.throws(() => readRegularSync(dir), /EISDIR/);
    assert.equal(damageWithin(pipe), undefined, 'as a log of the registry: it is the library that tells');
  });

  test('in place of the index of an adapter: the next one is read', async () => {
    const reader = createAdapterReader({ threads: 1 });
    const folder = copy('adapters/llama/qv-r4', 'adapter');
    rmSync(join(folder, 'adapter_model.safetensors'));
    fifo('adapter', 'adapter_model.safetensors.index.json');
    const base = await goldenBase('llama');
    const request = (of: string) => ({ folder: of, roots: [dir, GOLDEN], supportedFeatures: new Set(['lora']) });
    await assert.rejects(reader.read(request(folder), base), {
      reason: 'ADAPTER_SOURCE_INVALID',
      message: /index\.json" is not a regular file$/,
    });
    await reader.read(request(`${GOLDEN}adapters/llama/qv-r4`), base);
    await reader.close();
  });

  test('in place of the files of a model', async () => {
    const folder = copy('models/llama', 'model');
    fifo('model', 'tokenizer_config.json');
    const refused = { reason: 'MODEL_INVALID', message: /cannot be read: not a regular file/ };
    await assert.rejects(new FolderFiles(folder).read('tokenizer_config.json'), refused);
    fifo('model', 'generation_config.json');
    await assert.rejects(openModelFolder(folder), refused);
    fifo('model', 'config.json');
    await assert.rejects(openModelFolder(folder), refused);
    fifo('model', 'serving.properties');
    assert.throws(() => propertiesOf(folder, false, servingEnvironment({})), /not a regular file/);
  });

  test('in place of kept weights: they are made anew', async () => {
    fifo('a.form');
    assert.equal(await findConverted(dir, 'a.form'), undefined);
    const kept = await keepConverted(dir, 'a.form', [Buffer.from('weights')]);
    assert.deepEqual(await findConverted(dir, 'a.form'), kept);
  });
});
