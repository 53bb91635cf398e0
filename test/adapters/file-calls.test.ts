import assert from 'node:assert/strict';
import { constants, mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { DIRECT, type FileCalls, HANDED_OVER } from '../../server/adapters/file-calls.js';

const place = mkdtempSync(join(tmpdir(), 'loramux-calls-'));
after(() => rmSync(place, { recursive: true }));
const file = join(place, 'file');
writeFileSync(file, Buffer.from(Array.from({ length: 5000 }, (_, i) => i % 251)));
mkdirSync(join(place, 'folder'));
symlinkSync(file, join(place, 'link'));
const long = join(place, 'long');
writeFileSync(long, 'beginning');
truncateSync(long, 6 * 1024 * 1024);

/** What the calls say of everything there is, and of what is not there. */
async function findings(calls: FileCalls) {
  const code = (error: NodeJS.ErrnoException) => error.code;
  const read = async (path: string, position: number, length: number) => {
    const handle = await calls.open(path, constants.O_RDONLY);
    try {
      const { size } = await handle.stat();
      const target = new Uint8Array(length);
      const { bytesRead } = await handle.read(target, 2, length - 2, position);
      return [size, bytesRead, [...target]];
    } finally {
      await handle.close();
    }
  };
  const missing = join(place, 'missing');
  const inFile = join(file, 'below');
  return {
    real: [await calls.realpath(join(place, 'link')), await calls.realpath(missing).catch(code)],
    sizes: [(await calls.stat(file)).size, (await calls.find(file))?.size, await calls.stat(missing).catch(code)],
    nothing: [await calls.find(missing), await calls.find(inFile)],
    names: (await calls.readdir(place)).sort(),
    folders: (await calls.entries(place)).filter((entry) => entry.isDirectory()).map(({ name }) => name),
    whole: [...(await calls.readFile(file))],
    wrong: [await calls.readFile(place).catch(code), await calls.open(missing, constants.O_RDONLY).catch(code)],
    part: await read(file, 1000, 50),
    end: await read(file, 4990, 50),
    ofLong: [await read(long, 0, 20), await read(long, 6 * 1024 * 1024 - 3, 20)],
  };
}

describe('calls to the file system', () => {
  it('find the same, whoever makes them', async () => {
    assert.deepEqual(await findings(DIRECT), await findings(HANDED_OVER));
  });
});
