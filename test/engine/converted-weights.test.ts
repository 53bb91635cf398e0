/** Kept conversions: used when whole, ignored when not, and safe among writers. */
import assert from 'node:assert/strict';
import {
  copyFileSync,
  cpSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { convertedName, findConverted, keepConverted } from '../../server/engine/converted-weights.js';
import { exactWeightBytes } from '../../server/engine/integer-check.js';
import { openBackend } from '../../server/engine/open-backend.js';
import { BASE_ROW } from '../../server/engine/row-adapter.js';
import { type ModelFolder, openModelFolder } from '../../server/model/model-folder.js';
import { GOLDEN } from './golden-model.js';

const dir = mkdtempSync(join(tmpdir(), 'loramux-converted-'));
after(() => rmSync(dir, { recursive: true }));
const bytes = Uint8Array.from({ length: 100_000 }, (_, i) => (i * 31) >> 3);
const folderOf = (name: string) => join(dir, name);

test('what was kept is found again', async () => {
  const kept = await keepConverted(folderOf('plain'), 'a.form', [bytes]);
  assert.equal(kept?.name, 'a.form');
  assert.deepEqual(await findConverted(folderOf('plain'), 'a.form'), kept);
  assert.deepEqual(readFileSync(join(kept!.folder, kept!.name)).subarray(0, bytes.length), Buffer.from(bytes));
  assert.equal(await findConverted(folderOf('plain'), 'b.form'), undefined);
});

test('a torn, an altered, a renamed and a longer file are not used', async () => {
  const place = folderOf('broken');
  await keepConverted(place, 'a.form', [bytes]);
  const whole = readFileSync(join(place, 'a.form'));
  copyFileSync(join(place, 'a.form'), join(place, 'b.form'));
  assert.equal(await findConverted(place, 'b.form'), undefined, 'renamed');
  const altered = Buffer.from(whole);
  altered[50_000]! ^= 1;
  for (const [what, contents] of Object.entries({
    torn: whole.subarray(0, 70_000),
    altered,
    longer: Buffer.concat([whole, Buffer.of(0)]),
    empty: Buffer.alloc(0),
  })) {
    writeFileSync(join(place, 'a.form'), contents);
    assert.equal(await findConverted(place, 'a.form'), undefined, what);
  }
  await keepConverted(place, 'a.form', [bytes]);
  assert.notEqual(await findConverted(place, 'a.form'), undefined, 'written anew');
});

test('a file that is known is not read again, unless anybody has touched it', async () => {
  const place = folderOf('known');
  const kept = await keepConverted(place, 'a.form', [bytes]);
  assert.equal(await findConverted(place, 'a.form', kept), kept, 'as it was written');
  const found = await findConverted(place, 'a.form');
  assert.equal(await findConverted(place, 'a.form', found), found, 'as it was found');
  assert.equal(await findConverted(place, 'b.form', found), undefined, 'another one');
  const path = join(place, 'a.form');
  const whole = readFileSync(path);
  const { atime, mtime } = statSync(path);
  for (const [what, contents] of Object.entries({
    torn: whole.subarray(0, 70_000),
    'altered at its length': Buffer.from(whole).fill(1, 500, 600),
  })) {
    writeFileSync(path, contents);
    utimesSync(path, atime, mtime);
    assert.equal(await findConverted(place, 'a.form', found), undefined, what);
  }
  // Another whole file in its place is read, and is then the one that is known.
  await keepConverted(place, 'a.form', [bytes]);
  const anew = await findConverted(place, 'a.form', found);
  assert.notEqual(anew!.state, found!.state);
  assert.equal(await findConverted(place, 'a.form', anew), anew);
});

test('writers that start together leave one whole file, and what a killed writer left goes', async () => {
  const place = folderOf('together');
  await keepConverted(place, 'other.form', [bytes]);
  const [old, young] = [join(place, 'a.form.old.tmp'), join(place, 'a.form.young.tmp')];
  writeFileSync(old, 'half');
  writeFileSync(young, 'half');
  utimesSync(old, 1, 1);
  await Promise.all(Array.from({ length: 8 }, () => keepConverted(place, 'a.form', [bytes])));
  assert.notEqual(await findConverted(place, 'a.form'), undefined);
  assert.deepEqual(readdirSync(place).sort(), ['a.form', 'a.form.young.tmp', 'other.form']);
});

test('a place that cannot be written to is no error', async () => {
  writeFileSync(folderOf('file'), '');
  assert.equal(await keepConverted(join(folderOf('file'), 'below'), 'a.form', [bytes]), undefined);
});

describe('a model', async () => {
  if ((await exactWeightBytes()) === undefined)
    return test('is not converted to columns on this processor', { skip: true });
  const weightReads = (folder: ModelFolder) => {
    let count = 0;
    const { checkpoint } = folder;
    const readFloat32: typeof checkpoint.readFloat32 = (name, shape) => {
      if (name.includes('proj')) count += 1;
      return checkpoint.readFloat32(name, shape);
    };
    const readStored = (name: string) => {
      count += 1;
      return checkpoint.readStored!(name);
    };
    return { folder: { ...folder, checkpoint: { ...checkpoint, readFloat32, readStored } }, count: () => count };
  };
  const ids = [3, 70, 11, 42, 5, 5, 60];
  const logitsOf = async (folder: ModelFolder, cacheDir: string | undefined) => {
    const backend = await openBackend(folder, { dtype: 'int8', threads: 1, lora: false, cacheDir });
    return (await backend.prefill(ids, 0, backend.createStore(1, 32), BASE_ROW, [ids.length - 1])).slice();
  };

  test('that was converted before gives the same logits without reading its weights', async () => {
    const opened = await openModelFolder(join(GOLDEN, 'models/llama'));
    const plain = await logitsOf(opened, undefined);
    const first = weightReads(opened);
    assert.deepEqual(await logitsOf(first.folder, folderOf('model')), plain);
    assert.ok(first.count() > 0);
    const second = weightReads(opened);
    assert.deepEqual(await logitsOf(second.folder, folderOf('model')), plain);
    assert.equal(second.count(), 0);
    const [name] = readdirSync(folderOf('model'));
    writeFileSync(join(folderOf('model'), name!), 'torn');
    const third = weightReads(opened);
    assert.deepEqual(await logitsOf(third.folder, folderOf('model')), plain);
    assert.ok(third.count() > 0);
    await opened.close();
  });

  test('has another name once its files are touched', async () => {
    const place = folderOf('copy');
    cpSync(join(GOLDEN, 'models/llama'), place, { recursive: true });
    const opened = await openModelFolder(place);
    const before = await convertedName(opened, 'form');
    assert.equal(await convertedName(opened, 'form'), before);
    const apart = { ...opened, spec: { ...opened.spec, head: { ...opened.spec.head, apart: true } } };
    assert.notEqual(await convertedName(apart, 'form'), before);
    utimesSync(opened.checkpoint.files[0]!.path, 5, 5);
    assert.notEqual(await convertedName(opened, 'form'), before);
    assert.notEqual(await convertedName(opened, 'other'), await convertedName(opened, 'form'));
    await opened.close();
  });
});
