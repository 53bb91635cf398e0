/** What is told before the server itself can. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const bin = fileURLToPath(new URL('../../bin/loramux.mjs', import.meta.url));

test('a limit of open files that is too low for the start is told in one line', (t) => {
  if (process.platform === 'win32') return t.skip('there is no such limit');
  let told = 0;
  for (const limit of [20, 22, 30, 40]) {
    const start = (...args: string[]) =>
      spawnSync('sh', ['-c', `ulimit -n ${limit}; exec "$0" "$@"`, process.execPath, ...args], { encoding: 'utf8' });
    const { status, stderr } = start(bin, '--version');
    // How many Node itself needs, and how many at once for modules, depends on its release: with some it does not come as
    // far as the command, with others it reads all of it.
    if (status === 0 || start('-e', '0').status !== 0 || /open '.*\/(?:bin|scripts)\/\w+\.mjs'/.test(stderr)) continue;
    assert.equal(status, 2, stderr);
    assert.match(
      stderr.replace(/^Warning: Ignoring extra certs.*\n/, ''),
      /^loramux: .* enough files .*ulimit -n \d+\n$/,
    );
    told += 1;
  }
  if (told === 0) t.skip(`Node ${process.version} needs more files than the start of the command`);
});
