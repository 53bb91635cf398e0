// The sources as JavaScript, made once per state of the sources and kept: starting costs no translation then.
//
// A compiled copy lies below node_modules/.cache in a folder named by a digest of everything it is made from, so that
// edited sources are another copy, never a stale one. It is made in a folder of its own, flushed and renamed, so that
// starts at the same time never see each other's half, nor a later one the half of a machine that went down.
import { createHash, randomUUID } from 'node:crypto';
import * as fs from 'node:fs';
import path from 'node:path';
import { bundle, translate } from './translate.mjs';

/** What the server consists of. All of it keeps its place relative to the rest, so that modules find one another. */
const SERVER = ['server', 'gen', 'sdk'];
/** What the tests consist of besides. Theirs is the `import.meta.url` of the source: they read files that lie beside it. */
const TESTS = ['bench', 'scripts', 'test'];
/** Copies that nobody started for this long go, when another one is made. */
const UNUSED_MS = 48 * 3_600_000;
/** A copy in use is marked this often: modules are loaded from it, and threads started, as long as the server runs. */
const MARK_MS = 3_600_000;

/**
 * The folder of the compiled copy that equals the sources, made if there is none.
 * @param {string} root folder of the package
 * @param {{ tests?: boolean }} options `tests`: of the server and the tests
 * @returns {Promise<string>} its path; rejects where it can neither be found nor made
 */
export async function compiled(root, { tests = false } = {}) {
  const sources = readSources(root, tests ? [...SERVER, ...TESTS] : SERVER);
  const cache = path.join(root, 'node_modules', '.cache', 'loramux');
  const folder = path.join(cache, digestOf(root, sources));
  if (!isWhole(folder)) await make(root, sources, cache, folder);
  keepMarked(folder);
  return folder;
}

/** Lists the files of a copy with their sizes. */
const LIST = 'files.json';

/** False also for a copy that lost something: a full disk, a cleaner of old files or a restored backup may do that. */
function isWhole(folder) {
  try {
    const files = Object.entries(JSON.parse(fs.readFileSync(path.join(folder, LIST), 'utf8')));
    return files.length > 0 && files.every(([name, size]) => fs.statSync(path.join(folder, name)).size === size);
  } catch {
    return false;
  }
}

/** [path below the root, contents], sorted. */
function readSources(root, folders) {
  return folders
    .flatMap((top) => fs.readdirSync(path.join(root, top), { recursive: true }).map((name) => path.join(top, name)))
    .filter((name) => /(?<!\.d)\.(ts|mjs)$/.test(name) && !/(^|[\\/])(node_modules|dist)[\\/]/.test(name))
    .sort()
    .map((name) => [name, fs.readFileSync(path.join(root, name))]);
}

/** Covers the sources, and what turns them into the copy. */
function digestOf(root, sources) {
  // node_modules may be a link that several checkouts share.
  const hash = createHash('sha256').update(`${root}\0`);
  const makers = [
    new URL(import.meta.url),
    new URL('./translate.mjs', import.meta.url),
    path.join(root, 'package.json'),
    path.join(root, 'node_modules/esbuild/package.json'),
    // Of the dependencies, which a copy of the server holds.
    ...installedBy(root),
  ];
  for (const file of makers) hash.update(fs.readFileSync(file)).update('\0');
  for (const [name, text] of sources) hash.update(`${name}\0${text.length}\0`).update(text);
  return hash.digest('hex').slice(0, 32);
}

async function make(root, sources, cache, folder) {
  const temporary = `${folder}.${randomUUID()}.tmp`;
  fs.mkdirSync(cache, { recursive: true });
  removeUnused(cache);
  try {
    const files = withList(await filesOf(root, sources, folder));
    for (const name of new Set(files.map(([name]) => path.dirname(name))))
      fs.mkdirSync(path.join(temporary, name), { recursive: true });
    // All at once: one after the other, each would wait for the disk by itself.
    await Promise.all(
      files.map(([name, contents]) => fs.promises.writeFile(path.join(temporary, name), contents, { flush: true })),
    );
    if (!isWhole(folder)) remove(folder);
    fs.renameSync(temporary, folder);
  } catch (error) {
    fs.rmSync(temporary, { recursive: true, force: true });
    // Another start has made the same copy meanwhile.
    if (!isWhole(folder)) throw error;
  }
}

function withList(files) {
  const sizes = Object.fromEntries(files.map(([name, contents]) => [name, Buffer.byteLength(contents)]));
  return [...files, [LIST, JSON.stringify(sizes)]];
}

/** Renamed first: a copy that is there is whole. */
function remove(place) {
  const going = place.endsWith('.tmp') ? place : `${place}.${randomUUID()}.tmp`;
  if (going !== place && fs.existsSync(place)) fs.renameSync(place, going);
  fs.rmSync(going, { recursive: true, force: true });
}

/** Where npm says what it has installed; without that, nobody would notice that dependencies have become others. */
function installedBy(root) {
  const list = path.join(root, 'node_modules/.package-lock.json');
  return fs.existsSync(list) ? [list] : [];
}

/** The files of the copy in `folder`: [path below it, contents]. */
async function filesOf(root, sources, folder) {
  const ofTests = ([name]) => TESTS.includes(name.split(path.sep)[0]);
  const typed = sources.filter(([name]) => name.endsWith('.ts'));
  // A test imports some modules, each test others.
  const made = sources.some(ofTests)
    ? await translate(root, typed, folder, (name) => ofTests([name]))
    : await bundle(root, typed, folder, installedBy(root).length > 0);
  return [...made, ...sources.filter(([name]) => name.endsWith('.mjs')), ['package.json', packageFile(root)]];
}

/** That of the package, and where the package lies from here. */
function packageFile(root) {
  const { version } = JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8'));
  return `${JSON.stringify({ name: 'loramux-compiled', version, type: 'module', package: root })}\n`;
}

/** Marks a copy as used, now and while this process runs. */
function keepMarked(folder) {
  const mark = () => fs.utimes(folder, new Date(), new Date(), () => {});
  mark();
  setInterval(mark, MARK_MS).unref();
}

function removeUnused(cache) {
  for (const name of fs.readdirSync(cache)) {
    const place = path.join(cache, name);
    const { mtimeMs } = fs.statSync(place, { throwIfNoEntry: false }) ?? { mtimeMs: Date.now() };
    if (Date.now() - mtimeMs >= UNUSED_MS) remove(place);
  }
}
