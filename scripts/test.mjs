// `npm test [-- PATH...] [-- --test-name-pattern=...]`: installs what is missing, then runs the tests below the paths.
import { existsSync, readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { compiled } from './compile.mjs';
import { ensureInstalled } from './install.mjs';
import { runNode } from './run-node.mjs';

const root = fileURLToPath(new URL('../', import.meta.url));
ensureInstalled(root, true);
const args = process.argv.slice(2);
const flags = args.filter((arg) => arg.startsWith('--'));
const places = args.filter((arg) => !arg.startsWith('--'));
// The runner of Node 20 takes no glob patterns, so the files are listed here.
const files = (places.length > 0 ? places : ['test']).flatMap((place) => testFiles(path.resolve(root, place))).sort();
if (files.length === 0) {
  console.error(`no *.test.ts below ${places.join(', ') || 'test'}`);
  process.exit(1);
}
const copy = await inCopy(files);
// Two at a time: some tests start servers, and a machine with few cores must still answer in time.
// The whole golden set on a GPU made of software takes many minutes.
const timeoutMs = process.env.LORAMUX_TEST_GPU === 'all' ? 3_600_000 : 300_000;
const runner = ['--test', '--test-reporter=spec', '--test-concurrency=2', `--test-timeout=${timeoutMs}`, ...flags];
// Tests load onnxruntime as the server does: without its reports (docs/decisions/0092).
process.env.ORT_DISABLE_TELEMETRY ??= '1';
runNode(['--import', copy.preload, ...runner, ...copy.files], { cwd: root });

/** The files in the compiled copy, as translating in every process and thread would cost a third more; else as they are. */
async function inCopy(files) {
  try {
    const folder = await compiled(root, { tests: true });
    const made = files.map((file) => path.join(folder, path.relative(root, file)).replace(/\.ts$/, '.js'));
    if (!made.every((file) => existsSync(file))) throw new Error('tests elsewhere');
    return { preload: pathToFileURL(path.join(folder, 'server', 'source-lines.mjs')).href, files: made };
  } catch {
    // A source that has a fault, for one: this tells it where it is imported.
    return { preload: 'tsx', files };
  }
}

function testFiles(place) {
  if (!statSync(place, { throwIfNoEntry: false })?.isDirectory()) return place.endsWith('.test.ts') ? [place] : [];
  return readdirSync(place, { withFileTypes: true })
    .filter((entry) => entry.name !== 'node_modules')
    .flatMap((entry) => testFiles(path.join(place, entry.name)));
}
