/** The compiled copy: never stale, never half there, and done without where it cannot be. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../../', import.meta.url));

/** A package with this one's scripts, and a server that prints `text` from a module and from a thread. */
function smallPackage(t: TestContext, text: string): string {
  const place = mkdtempSync(join(tmpdir(), 'loramux-compile-'));
  t.after(() => rmSync(place, { recursive: true }));
  for (const folder of ['bin', 'scripts']) cpSync(join(root, folder), join(place, folder), { recursive: true });
  for (const folder of ['server', 'gen', 'sdk', 'node_modules']) mkdirSync(join(place, folder));
  for (const name of ['esbuild', '@esbuild', 'tsx', 'get-tsconfig', 'resolve-pkg-maps']) {
    const installed = join(root, 'node_modules', name);
    if (statSync(installed, { throwIfNoEntry: false })) symlinkSync(installed, join(place, 'node_modules', name));
  }
  for (const name of ['thread.mjs', 'threads.ts', 'source-lines.mjs'])
    cpSync(join(root, 'server', name), join(place, 'server', name));
  writeFileSync(join(place, 'package.json'), JSON.stringify({ version: '1', type: 'module' }));
  writeFileSync(
    join(place, 'server/main.ts'),
    [
      "import { text } from './text.js';",
      "import { moduleBeside, startThread } from './threads.js';",
      '',
      "const worker = startThread(moduleBeside(import.meta.url, 'worker'));",
      "worker.once('message', (stack: string) => {",
      '  const fault = new Error() as Error & { stack: string };',
      '  console.log(JSON.stringify({ text, args: process.argv.slice(2), from: import.meta.url, stack, own: fault.stack }));',
      '});',
    ].join('\n'),
  );
  const worker = "interface Unused {\n  x: number;\n}\nimport { parentPort } from 'node:worker_threads';\n";
  writeFileSync(join(place, 'server/worker.ts'), `${worker}parentPort!.postMessage(new Error().stack);\n`);
  writeFileSync(join(place, 'server/text.ts'), `export const text: string = ${JSON.stringify(text)};\n`);
  return place;
}

async function start(
  place: string,
  env: Readonly<Record<string, string>> = {},
): Promise<Record<'text' | 'from' | 'stack' | 'own', string> & { args: string[] }> {
  const { stdout } = await run(process.execPath, [join(place, 'bin/loramux.mjs'), 'a', '--b'], {
    cwd: tmpdir(),
    env: { ...process.env, ...env },
  });
  return JSON.parse(stdout);
}

test('a start runs a compiled copy, and its stack traces name the sources, in threads too', async (t) => {
  const place = smallPackage(t, 'one');
  const { text, args, from, stack, own } = await start(place);
  assert.deepEqual([text, args], ['one', ['a', '--b']]);
  assert.match(from, /node_modules\/\.cache\/loramux\/[0-9a-f]{32}\/server\/main\.js$/);
  assert.ok(own.includes(`${join(place, 'server/main.ts')}:6:17`), own);
  assert.ok(stack.includes(`${join(place, 'server/worker.ts')}:5:25`), stack);
});

test('an edit is another copy, even one of equal length and time', async (t) => {
  const place = smallPackage(t, 'one');
  const before = await start(place);
  const file = join(place, 'server/text.ts');
  const { atime, mtime } = statSync(file);
  writeFileSync(file, readFileSync(file, 'utf8').replace('one', 'two'));
  utimesSync(file, atime, mtime);
  const after = await start(place);
  assert.equal(after.text, 'two');
  assert.notEqual(after.from, before.from);
});

test('starts at the same time make one copy and all run it', async (t) => {
  const place = smallPackage(t, 'one');
  const started = await Promise.all(Array.from({ length: 4 }, () => start(place)));
  assert.deepEqual(new Set(started.map(({ text }) => text)), new Set(['one']));
  assert.equal(new Set(started.map(({ from }) => from)).size, 1);
  assert.equal(readdirSync(join(place, 'node_modules/.cache/loramux')).length, 1);
});

test('a copy that lost something is made anew', async (t) => {
  const place = smallPackage(t, 'whole');
  const { from } = await start(place);
  const copy = fileURLToPath(new URL('..', from));
  const files = readdirSync(copy, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  assert.ok(files.length > 4);
  const spoils = [rmSync, (file: string) => truncateSync(file, 0), (file: string) => truncateSync(file, 9)];
  for (const [at, { parentPath, name }] of files.entries()) {
    spoils[at % spoils.length]!(join(parentPath, name));
    const again = await start(place);
    assert.deepEqual([again.text, again.from], ['whole', from], name);
  }
  const cache = join(place, 'node_modules/.cache/loramux');
  assert.equal(readdirSync(cache).length, 1, 'nothing is left of the others');
});

test('copies that nobody used for days go, with what was left half made', async (t) => {
  const place = smallPackage(t, 'one');
  const cache = join(place, 'node_modules/.cache/loramux');
  for (const name of ['old', 'old.tmp', 'new.tmp']) mkdirSync(join(cache, name), { recursive: true });
  const longAgo = new Date(Date.now() - 3 * 24 * 3_600_000);
  for (const name of ['old', 'old.tmp']) utimesSync(join(cache, name), longAgo, longAgo);
  await start(place);
  const left = readdirSync(cache);
  assert.equal(left.length, 2);
  assert.ok(left.includes('new.tmp'), 'another start may be making it');
});

test('where no copy can be kept, the sources themselves run', async (t) => {
  const place = smallPackage(t, 'one');
  writeFileSync(join(place, 'node_modules/.cache'), 'no folder');
  // Nor must there be a folder for what tsx would keep.
  for (const env of [undefined, { TMPDIR: join(place, 'package.json', 'none') }]) {
    const { text, from } = await start(place, env);
    assert.deepEqual([text, from.endsWith('/server/main.ts')], ['one', true]);
  }
});

test('a fault in the sources is told with its place', async (t) => {
  const place = smallPackage(t, 'one');
  writeFileSync(join(place, 'server/text.ts'), 'export const text = ;\n');
  await assert.rejects(start(place), /server\/text\.ts:1:20/);
});

test('a copy with the tests has its own server, and in tests the addresses of the sources', async (t) => {
  const place = smallPackage(t, 'one');
  for (const folder of ['bench', 'test']) mkdirSync(join(place, folder));
  writeFileSync(
    join(place, 'test/some.ts'),
    [
      "import { text } from '../server/text.js';",
      "export const all = [text, import.meta.url, 'import.meta.url', new Error().stack];",
      '',
    ].join('\n'),
  );
  const script = [
    `import { compiled } from ${JSON.stringify(pathToFileURL(join(place, 'scripts/compile.mjs')).href)};`,
    `const copy = await compiled(${JSON.stringify(place)}, { tests: true });`,
    "await import(copy + '/server/source-lines.mjs');",
    "console.log(JSON.stringify((await import(copy + '/test/some.js')).all));",
  ];
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', script.join('\n')]);
  const [text, url, words, stack] = JSON.parse(stdout) as string[];
  const source = join(place, 'test/some.ts');
  assert.deepEqual([text, url, words], ['one', pathToFileURL(source).href, 'import.meta.url']);
  assert.ok(stack!.includes(`${source}:2:63`), stack);
});

test('a copy holds dependencies until npm installs others, and stack traces name their files', async (t) => {
  const place = smallPackage(t, 'one');
  const folder = join(place, 'node_modules/dependency');
  mkdirSync(folder);
  writeFileSync(join(folder, 'package.json'), '{"main":"main.js"}');
  writeFileSync(
    join(place, 'server/text.ts'),
    "import { answer } from 'dependency';\nexport const text: string = answer(() => new Error().stack!);\n",
  );
  const install = (version: string) => {
    writeFileSync(join(folder, 'main.js'), `\n\nexports.answer = (of) => '${version} ' + of() + __filename;\n`);
    writeFileSync(join(place, 'node_modules/.package-lock.json'), JSON.stringify({ version }));
  };
  install('1.0');
  const { text, from } = await start(place);
  assert.match(text, /^1\.0 Error/);
  assert.ok(text.includes(`${join(place, 'server/text.ts')}:2:42`), text);
  assert.ok(text.includes(`(${join(folder, 'main.js')})`), text);
  rmSync(folder, { recursive: true });
  assert.equal((await start(place)).text, text, 'it needs them no more');
  mkdirSync(folder);
  writeFileSync(join(folder, 'package.json'), '{"main":"main.js"}');
  install('1.1');
  const later = await start(place);
  assert.match(later.text, /^1\.1 Error/);
  assert.notEqual(later.from, from);
});
