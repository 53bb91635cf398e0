// `npm run check`: everything that must hold before a change is taken, in the order of CI. `--no-test` leaves out the tests.
import { spawn, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { ensureInstalled } from './install.mjs';

const root = fileURLToPath(new URL('../', import.meta.url));
ensureInstalled(root, true);
const options = { cwd: root, shell: process.platform === 'win32' };
/** The longest first: the others run beside it. */
const steps = [
  ['types', ['run', '--silent', 'types']],
  ['generated code is fresh', ['run', '--silent', 'gen:check']],
  ['schema lint', ['run', '--silent', 'lint:proto']],
  ['lint and format', ['run', '--silent', 'lint']],
  ['generated pages are fresh', ['run', '--silent', 'docs', '--', '--check']],
];
const failed = [];
if (!process.argv.includes('--no-test')) {
  console.log('--- tests');
  if (spawnSync('npm', ['test'], { ...options, stdio: 'inherit' }).status !== 0) failed.push('tests');
}
const [types, ...others] = steps;
const typed = run(types);
for (const step of others) await run(step);
await typed;
console.log(failed.length > 0 ? `--- failed: ${failed.join('; ')}` : '--- all checks passed');
process.exitCode = failed.length > 0 ? 1 : 0;

/** Runs a step; tells what it said when it is over, so that two of them do not mix. */
function run([name, args]) {
  return new Promise((resolve) => {
    const child = spawn('npm', args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
    const said = [];
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => said.push(data));
    child.on('error', ({ message }) => said.push(Buffer.from(`${message}\n`)));
    child.on('close', (code) => {
      console.log(`--- ${name}`);
      process.stdout.write(Buffer.concat(said));
      if (code !== 0) failed.push(name);
      resolve();
    });
  });
}
