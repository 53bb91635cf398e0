import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { startServer } from './served.js';

const shared = fileURLToPath(new URL('../../../shared/', import.meta.url));
const suite = path.join(shared, 'conformance/djl');
const adapters = path.join(shared, 'golden/adapters/llama');

/** Cases that pass, so that none is lost; the others are named in docs/compatibility.md. */
const PASSING = JSON.parse(readFileSync(new URL('./djl-passing.json', import.meta.url), 'utf8')) as string[];

test('the recorded cases of DJL Serving that passed before still pass', { timeout: 300_000 }, async (t) => {
  const scratch = mkdtempSync(path.join(tmpdir(), 'loramux-djl-'));
  t.after(() => rmSync(scratch, { recursive: true, force: true }));
  mkdirSync(path.join(scratch, 'no-adapter'));
  const url = await startServer(t, [
    '--model',
    `base=${path.join(shared, 'golden/models/llama')}`,
    '--adapters',
    adapters,
    '--allow-path',
    scratch,
    '--log-level',
    'warn',
  ]);
  const variables = {
    D1: 'rslora',
    D2: 'all-r8',
    SRC1: path.join(adapters, 'qv-r4'),
    SRC2: path.join(adapters, 'mlp-r16'),
    SRC3: path.join(adapters, 'att-r1'),
    SRC4: path.join(adapters, 'all-r8-b'),
    SRC5: path.join(adapters, 'patterns'),
    BAD_SRC: path.join(adapters, 'no-such-folder'),
    NOCFG_SRC: path.join(scratch, 'no-adapter'),
  };
  const report = path.join(scratch, 'report.json');
  const output = await run([
    path.join(suite, 'suite.mjs'),
    ...['--base', url, '--cases', path.join(suite, 'open.json'), '--model', 'base', '--json', report],
    ...['--have', 'single,lmi,limit64m,destructive', '--verbose'],
    ...Object.entries(variables).flatMap(([name, value]) => ['--var', `${name}=${value}`]),
  ]);
  const outcome = JSON.parse(readFileSync(report, 'utf8')) as Record<string, string[]>;
  const passed = new Set([...outcome.pass!, ...outcome.deviate_passed!]);
  const lost = PASSING.filter((id) => !passed.has(id));
  const gained = [...passed].filter((id) => !PASSING.includes(id));
  if (gained.length > 0) t.diagnostic(`pass too, add them to djl-passing.json: ${gained.join(' ')}`);
  assert.deepEqual(lost, [], output);
});

function run(args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (data) => {
        output += data;
      });
    }
    child.on('error', reject);
    // The suite ends with 1 when any case fails; the report says which.
    child.on('exit', () => resolve(output));
  });
}
