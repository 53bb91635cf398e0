// `npm run check`: everything that must hold before a change is taken, in the order of CI. `--no-test` leaves out the tests.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { ensureInstalled } from './install.mjs';

const root = fileURLToPath(new URL('../', import.meta.url));
ensureInstalled(root);
const steps = [
  ['tests', ['test']],
  ['generated code is fresh', ['run', '--silent', 'gen:check']],
  ['types', ['run', '--silent', 'types']],
  ['lint and format', ['run', '--silent', 'lint']],
  ['schema lint', ['run', '--silent', 'lint:proto']],
  ['generated pages are fresh', ['run', '--silent', 'docs', '--', '--check']],
];
const failed = [];
for (const [name, args] of process.argv.includes('--no-test') ? steps.slice(1) : steps) {
  console.log(`--- ${name}`);
  const result = spawnSync('npm', args, { cwd: root, stdio: 'inherit', shell: process.platform === 'win32' });
  if (result.status !== 0) failed.push(name);
}
console.log(failed.length > 0 ? `--- failed: ${failed.join('; ')}` : '--- all checks passed');
process.exitCode = failed.length > 0 ? 1 : 0;
