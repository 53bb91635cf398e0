// Runs the server in this process: its compiled copy, or where none can be kept its sources, translated as they load.
import { accessSync, constants } from 'node:fs';
import { constants as osConstants, tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { compiled } from './compile.mjs';
import { onOrphaned } from './orphan.mjs';

const root = fileURLToPath(new URL('../', import.meta.url));

/**
 * Does what `loramux ...args` does.
 * @param {readonly string[]} args
 */
export async function serve(args) {
  process.argv = [process.argv[0], path.join(root, 'bin', 'loramux.mjs'), ...args];
  if (process.env.npm_lifecycle_event) endWithNpm();
  // Before the library is loaded: its Linux builds else report what models it runs to those who make it.
  process.env.ORT_DISABLE_TELEMETRY ??= '1';
  try {
    await import(await entry());
  } catch (error) {
    if (!isOutOfFiles(error)) throw error;
    console.error(
      `loramux: this process may not open enough files (${error.code}); allow it more, for example by: ulimit -n 4096`,
    );
    process.exit(2);
  }
}

/** With fewer open files a start may fail, where it runs the sources. */
const FEW_FILES = 160;

/**
 * Modules are read many at once, so a low limit of open files ends the start before the server can tell. A package that
 * cannot be looked at is then one that is not found.
 */
function isOutOfFiles(error) {
  if (error?.code === 'EMFILE' || error?.code === 'ENFILE') return true;
  return Number(process.report.getReport().userLimits?.open_files?.soft) < FEW_FILES;
}

/** Takes the end of npm for a signal, unless a signal came already: two mean "at once". */
function endWithNpm() {
  let told = false;
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.on(signal, () => {
      told = true;
      // As without this listener, until the server has its own.
      if (process.listenerCount(signal) === 1) process.exit(128 + osConstants.signals[signal]);
    });
  }
  onOrphaned(() => told || process.kill(process.pid, 'SIGTERM'));
}

/** URL of the module to run. */
async function entry() {
  try {
    const server = pathToFileURL(path.join(await compiled(root), 'server'));
    await import(`${server}/source-lines.mjs`);
    return `${server}/main.js`;
  } catch (error) {
    if (isOutOfFiles(error)) throw error;
    // Sources that have a fault, for one: this says where it is.
    await translate();
    return pathToFileURL(path.join(root, 'server', 'main.ts')).href;
  }
}

function isWritable(folder) {
  try {
    accessSync(folder, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

async function translate() {
  // Where tsx cannot keep what it translates, it would end the process, not do without.
  if (!isWritable(tmpdir())) process.env.TSX_DISABLE_CACHE = '1';
  try {
    const { register } = await import('tsx/esm/api');
    register();
  } catch (error) {
    if (error.code !== 'ERR_MODULE_NOT_FOUND') throw error;
    console.error('the dependencies of loramux are not installed; run npm ci in its folder');
    process.exit(1);
  }
}
