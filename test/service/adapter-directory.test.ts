import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { writeAdapter } from '../adapters/adapter-files.js';
import { failsWith } from '../app-error.js';
import { BYTES, call, dir, forever, select, setup } from './adapter-books.js';

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
    await assert.rejects(service.acquire('m', select('broken'), forever), failsWith('ADAPTER_FAILED', /no lora_A/));
    assert.ok(logged.some((line) => line.includes('ignored')));
    assert.deepEqual(await service.loadDirectory('m', join(dir, 'none')), []);
    await service.delete({ name: 'broken' }, call());
    await service.create({ name: 'broken', source: 'a2' }, call());
  });

  it('is loaded while the budget lasts; the rest loads at first use', async () => {
    const { service, engine, logged } = setup(BYTES);
    const infos = await service.loadDirectory('m', adapters);
    assert.deepEqual(infos.map(({ state }) => state).sort(), ['failed', 'ready', 'registered']);
    const full = logged.filter((line) => /budget|--adapter-bytes/.test(line));
    assert.equal(full.length, 1, 'however many they are');
    assert.match(
      full[0]!,
      /^the memory for adapters, 1536 bytes .* is full; loaded when a request needs them: 1 \("a[01]"\)$/,
    );
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
