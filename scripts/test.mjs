// `npm test [-- PATH...] [-- --test-name-pattern=...]`: installs what is missing, then runs the tests below the paths.
import { readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { ensureInstalled } from './install.mjs';
import { runNode } from './run-node.mjs';

const root = fileURLToPath(new URL('../', import.meta.url));
ensureInstalled(root);
const args = process.argv.slice(2);
const flags = args.filter((arg) => arg.startsWith('--'));
const places = args.filter((arg) => !arg.startsWith('--'));
// The runner of Node 20 takes no glob patterns, so the files are listed here.
const files = (places.length > 0 ? places : ['test']).flatMap((place) => testFiles(path.resolve(root, place))).sort();
if (files.length === 0) {
  console.error(`no *.test.ts below ${places.join(', ') || 'test'}`);
  process.exit(1);
}
// Two at a time: some tests start servers, and a machine with few cores must still answer in time.
// The whole golden set on a GPU made of software takes many minutes.
const timeoutMs = process.env.LORAMUX_TEST_GPU === 'all' ? 3_600_000 : 300_000;
runNode(['--test', '--test-reporter=spec', '--test-concurrency=2', `--test-timeout=${timeoutMs}`, ...flags, ...files], {
  cwd: root,
});

function testFiles(place) {
  if (!statSync(place, { throwIfNoEntry: false })?.isDirectory()) return place.endsWith('.test.ts') ? [place] : [];
  return readdirSync(place, { withFileTypes: true })
    .filter((entry) => entry.name !== 'node_modules')
    .flatMap((entry) => testFiles(path.join(place, entry.name)));
}
