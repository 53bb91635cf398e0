/** Packed weights behind the converted columns: shared where they are right, passed over where they are not. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { crc32 } from 'node:zlib';
import type { Unkept } from '../../server/engine/converted-weights.js';
import { exactWeightBytes } from '../../server/engine/integer-check.js';
import { prepareLinears } from '../../server/engine/linear-weights.js';
import { openBackend } from '../../server/engine/open-backend.js';
import { packWeights } from '../../server/engine/pack-thread.js';
import { findPacked, makePacked } from '../../server/engine/packed-weights.js';
import { BASE_ROW } from '../../server/engine/row-adapter.js';
import { startEngine } from '../../server/engine/start-engines.js';
import { openModelFolder } from '../../server/model/model-folder.js';
import { linearGroups } from '../../server/model/spec.js';
import { GOLDEN } from './golden-model.js';

describe('packed weights', async () => {
  if ((await exactWeightBytes()) === undefined) return test('are not made on this processor', { skip: true });
  const dir = mkdtempSync(join(tmpdir(), 'loramux-packed-'));
  const modelDir = join(GOLDEN, 'models/llama');
  const folder = await openModelFolder(modelDir);
  after(async () => {
    await folder.close();
    rmSync(dir, { recursive: true });
  });
  const ids = [3, 70, 11, 42, 5, 5, 60];
  const logits = async (cacheDir: string | undefined) => {
    const backend = await openBackend(folder, { dtype: 'int8', threads: 1, lora: false, cacheDir });
    return (await backend.prefill(ids, 0, backend.createStore(1, 32), BASE_ROW, [ids.length - 1])).slice();
  };
  const shared = async () => (await prepareLinears(folder, 'int8', dir)).shared === true;
  const packedFile = () => join(dir, readdirSync(dir).find((name) => name.includes('packed'))!);
  const wanted = await logits(undefined);

  test('need converted weights first', async () => {
    assert.equal(await makePacked(folder, dir), undefined);
    assert.deepEqual(await logits(dir), wanted);
    assert.equal(await shared(), false);
  });

  test('are made once, by a thread, and give the same logits', async () => {
    const packed = await packWeights({ modelDir, cacheDir: dir });
    assert.equal(join(packed!.folder, packed!.name), packedFile());
    assert.equal(await shared(), true);
    assert.deepEqual(await logits(dir), wanted);
    const made = readFileSync(packedFile());
    assert.deepEqual(await makePacked(folder, dir), packed);
    assert.deepEqual(readFileSync(packedFile()), made);
    assert.equal(readdirSync(dir).length, 2, 'nothing else is left');
  });

  const small = mkdtempSync(join(tmpdir(), 'loramux-full-'));
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', small]).status === 0;
  after(() => {
    if (mounted) spawnSync('umount', [small]);
    rmSync(small, { recursive: true });
  });
  test('that do not fit the disk are told in one short line, and nothing is left of them', {
    skip: mounted ? false : 'no small disk can be made here',
  }, async () => {
    const columns = readdirSync(dir).find((name) => !name.includes('packed'))!;
    copyFileSync(join(dir, columns), join(small, columns));
    const filling = join(small, 'filling');
    // From no room at all to all but what the last of it takes.
    const { bavail, bsize } = statfsSync(small);
    for (const left of [0, 40_000, statSync(join(dir, columns)).size]) {
      writeFileSync(filling, Buffer.alloc(Math.max(0, bavail * bsize - left)));
      const told: Unkept[] = [];
      assert.equal(
        await packWeights({ modelDir, cacheDir: small }, undefined, (unkept) => told.push(unkept)),
        undefined,
      );
      assert.equal(told.length, 1);
      assert.equal(told[0]!.form, 'packed');
      assert.match(told[0]!.why, /^ENOSPC: no space left on device[^\n]*$/);
      assert.ok(told[0]!.why.length < 200);
      assert.deepEqual(readdirSync(small).sort(), [columns, 'filling'].sort());
      rmSync(filling);
    }
  });

  test('cover every matrix of the model', async () => {
    const packed = (await findPacked(folder, dir))!.packed;
    assert.equal(packed.size, linearGroups(folder.spec).length);
    for (const entry of packed.values()) assert.match(entry, /^MatMulIntegerToFloat\+\d+\|\d+;\d+;0$/);
  });

  /** The file with its packed bytes spoilt and its index rewritten, under a checksum that is right. */
  const spoilt = (whole: Buffer, reindex: (index: string) => string): Buffer => {
    const body = Buffer.from(whole.subarray(0, -4));
    const index = body.lastIndexOf('[["');
    body.fill(1, Math.floor(index * 0.6), index);
    const parts = [
      body.subarray(0, index),
      Buffer.from(reindex(body.subarray(index, -8).toString())),
      body.subarray(-8),
    ];
    const name = packedFile().split('/').at(-1)!;
    const sum = Buffer.alloc(4);
    sum.writeUInt32BE(parts.reduce((so, part) => crc32(part, so), crc32(name)));
    return Buffer.concat([...parts, sum]);
  };

  test('that another processor made are passed over, those of this one are what is multiplied with', async () => {
    const whole = readFileSync(packedFile());
    const otherKeys = (text: string) =>
      text.replaceAll(/\+(\d)/g, (_, digit: string) => `+${(Number(digit) + 1) % 10}`);
    writeFileSync(packedFile(), spoilt(whole, otherKeys));
    assert.equal(await shared(), true, 'the file itself is whole');
    assert.deepEqual(await logits(dir), wanted);
    writeFileSync(
      packedFile(),
      spoilt(whole, (text) => text),
    );
    assert.notDeepEqual(await logits(dir), wanted);
    writeFileSync(packedFile(), whole);
  });

  test('are told of by the engine that found them, and not looked for again', async () => {
    const limits = { maxBatch: 2, prefillChunk: 16, kvBytes: 1 << 20 };
    const options = { modelDir, dtype: 'int8' as const, threads: 1, lora: false, cacheDir: dir, limits };
    const engine = await startEngine(options, { maxQueue: 2 });
    const { kept } = engine;
    await engine.close();
    assert.equal(kept?.shared, true);
    assert.equal(join(kept.file.folder, kept.file.name), packedFile());
    const known = await findPacked(folder, dir, kept.file);
    assert.equal(known!.state, kept.file.state);
    // A further engine takes them as they are known, and looks for them once they are others.
    for (const knownWeights of [kept.file, { ...kept.file, state: 'another' }]) {
      const further = await startEngine({ ...options, knownWeights }, { maxQueue: 2 });
      await further.close();
      assert.deepEqual(further.kept, kept);
    }
  });

  test('that are torn are not used, and made anew', async () => {
    writeFileSync(packedFile(), readFileSync(packedFile()).subarray(0, 5000));
    assert.equal(await shared(), false);
    assert.deepEqual(await logits(dir), wanted);
    assert.notEqual(await makePacked(folder, dir), undefined);
    assert.equal(await shared(), true);
  });
});
