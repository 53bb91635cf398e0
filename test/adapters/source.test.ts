import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { findAdapterModule } from '../../server/adapters/adapter-module.js';
import { readAdapterFolder } from '../../server/adapters/read-adapter.js';
import { checkInside, scanAdapterDirectory, sourcePath } from '../../server/adapters/source.js';
import { AppError } from '../../server/errors.js';
import { writeAdapter } from './adapter-files.js';
import { goldenBase } from './golden-base.js';

const dir = mkdtempSync(join(tmpdir(), 'source-'));
after(() => rmSync(dir, { recursive: true }));
const root = join(dir, 'root');
const outside = writeAdapter(join(dir, 'outside'));
mkdirSync(root);
const base = await goldenBase('llama');
const read = (folder: string) => readAdapterFolder(folder, base, { roots: [root] });
const forbidden = { reason: 'ADAPTER_SOURCE_FORBIDDEN' };
const invalid = { reason: 'ADAPTER_SOURCE_INVALID' };

describe('a source', () => {
  it('is an absolute path, a file URI, or relative to the model folder', () => {
    assert.equal(sourcePath('adapters/fr', '/models/m'), '/models/m/adapters/fr');
    assert.equal(sourcePath('/a/../b', '/models/m'), '/b');
    assert.equal(sourcePath(pathToFileURL('/a b').href, '/models/m'), '/a b');
    for (const source of [
      '',
      'a\0b',
      's3://bucket/key',
      'hf://org/name',
      'https://x/y',
      'file://host/a',
      'file:///a%2Fb',
    ]) {
      assert.throws(() => sourcePath(source, '/models/m'), invalid, source);
    }
  });

  it('outside the roots is refused without being looked at', async () => {
    await assert.rejects(read(outside), forbidden);
    await assert.rejects(read(join(root, '..', 'outside')), forbidden);
    await assert.rejects(read(join(dir, 'not-there')), forbidden);
    await assert.rejects(read(`${root}-2`), forbidden);
    await assert.rejects(read(join(root, 'not-there')), invalid);
  });

  it('whose files the file system does not give is refused as a source, with the file’s name', async () => {
    const folder = writeAdapter(join(root, 'index-is-a-folder'));
    rmSync(join(folder, 'adapter_model.safetensors'));
    mkdirSync(join(folder, 'adapter_model.safetensors.index.json'));
    await assert.rejects(read(folder), { ...invalid, message: /index\.json.* cannot be read \(EISDIR\)$/ });
  });

  it('whose folder comes and goes is refused as a source or read, and nothing else', async () => {
    const folder = writeAdapter(join(root, 'comes-and-goes'));
    const aside = `${folder}-aside`;
    let moving = true;
    const mover = (async () => {
      for (; moving; await turn()) {
        renameSync(folder, aside);
        await turn();
        renameSync(aside, folder);
      }
    })();
    try {
      for (let i = 0; i < 200; i += 1) {
        const results = await Promise.allSettled([read(folder), findAdapterModule(folder, [root])]);
        for (const result of results) {
          if (result.status === 'fulfilled') continue;
          assert.ok(result.reason instanceof AppError, String(result.reason?.stack));
          assert.ok(['ADAPTER_SOURCE_INVALID', 'ADAPTER_INVALID'].includes(result.reason.reason));
        }
      }
    } finally {
      moving = false;
      await mover;
    }
  });

  it('that leaves the roots by a link is refused: folder, config, weights, shard', async () => {
    symlinkSync(outside, join(root, 'folder'));
    await assert.rejects(read(join(root, 'folder')), forbidden);
    for (const file of ['adapter_config.json', 'adapter_model.safetensors']) {
      const folder = writeAdapter(join(root, `link-${file}`));
      rmSync(join(folder, file));
      symlinkSync(join(outside, file), join(folder, file));
      await assert.rejects(read(folder), forbidden, file);
    }
    const sharded = writeAdapter(join(root, 'sharded'));
    rmSync(join(sharded, 'adapter_model.safetensors'));
    symlinkSync(join(outside, 'adapter_model.safetensors'), join(sharded, 'shard.safetensors'));
    writeFileSync(
      join(sharded, 'adapter_model.safetensors.index.json'),
      JSON.stringify({ weight_map: { t: 'shard.safetensors' } }),
    );
    await assert.rejects(read(sharded), forbidden);
  });

  it('may use links that stay below a root, as a download cache does', async () => {
    const blobs = writeAdapter(join(root, 'blobs'));
    const snapshot = join(root, 'snapshot');
    mkdirSync(snapshot);
    for (const file of ['adapter_config.json', 'adapter_model.safetensors']) {
      symlinkSync(join('..', 'blobs', file), join(snapshot, file));
    }
    assert.equal((await read(snapshot)).digest, (await read(blobs)).digest);
    symlinkSync(root, join(dir, 'root-link'));
    assert.match(await checkInside(join(dir, 'root-link', 'blobs'), [join(dir, 'root-link')]), /root\/blobs$/);
  });

  it('may be a folder with one named adapter inside, not with several or none', async () => {
    const named = join(root, 'named');
    writeAdapter(join(named, 'sql-bot'));
    assert.equal((await read(named)).linears.length, 2);
    writeAdapter(join(named, 'other'));
    await assert.rejects(read(named), /several adapters \(other, sql-bot\)/);
    mkdirSync(join(root, 'empty'));
    await assert.rejects(read(join(root, 'empty')), invalid);
    writeFileSync(join(root, 'file'), '');
    await assert.rejects(read(join(root, 'file')), /not a folder/);
  });

  it('with a config beyond the limit is refused unread', async () => {
    const folder = writeAdapter(join(root, 'large'));
    writeFileSync(join(folder, 'adapter_config.json'), ' '.repeat(5_000_000));
    await assert.rejects(read(folder), /at most 4194304/);
  });

  it('with shards reads as one file does', async () => {
    const folder = writeAdapter(join(root, 'one-shard'));
    const whole = await read(folder);
    renameSync(join(folder, 'adapter_model.safetensors'), join(folder, 'adapter_model-00001-of-00001.safetensors'));
    const map = Object.fromEntries(
      ['0', '1'].flatMap((layer) =>
        ['A', 'B'].map((side) => [
          `base_model.model.model.layers.${layer}.self_attn.q_proj.lora_${side}.weight`,
          'adapter_model-00001-of-00001.safetensors',
        ]),
      ),
    );
    writeFileSync(join(folder, 'adapter_model.safetensors.index.json'), JSON.stringify({ weight_map: map }));
    assert.equal((await read(folder)).digest, whole.digest);
  });
});

describe('a directory of adapters', () => {
  it('gives its folders, and the other entries as ignored', async () => {
    const adapters = join(dir, 'adapters');
    for (const name of ['b', 'a', '.cache']) mkdirSync(join(adapters, name), { recursive: true });
    writeFileSync(join(adapters, 'README.md'), '');
    assert.deepEqual(await scanAdapterDirectory(adapters), { names: ['a', 'b'], ignored: ['.cache', 'README.md'] });
  });
});
