/** What is told before the server itself can. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const bin = fileURLToPath(new URL('../../bin/loramux.mjs', import.meta.url));

test('a limit of open files that is too low for the start is told in one line', (t) => {
  if (process.platform === 'win32') return t.skip('there is no such limit');
  for (const limit of [20, 30, 40]) {
    const command = `ulimit -n ${limit}; exec "$0" "$1" --version`;
    const { status, stderr } = spawnSync('sh', ['-c', command, process.execPath, bin], { encoding: 'utf8' });
    assert.equal(status, 2, stderr);
    assert.match(stderr, /^loramux: .* enough files .*ulimit -n \d+\n$/);
  }
});
