// Runs Node with TypeScript support as a child that behaves as if it were this process: signals in, exit code out.
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { onOrphaned } from './orphan.mjs';

/** Starts `node --import tsx ...args`; this process ends as the child does. */
export function runNode(args, options = {}) {
  const child = spawn(process.execPath, ['--import', resolveTsx(), ...args], { stdio: 'inherit', ...options });
  let told = false;
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.on(signal, () => {
      told = true;
      // Ctrl-C in a terminal reaches the child by itself; a second one would count as "stop at once".
      if (signal === 'SIGINT' && process.stdin.isTTY) return;
      child.kill(signal);
    });
  }
  if (process.env.npm_lifecycle_event) onOrphaned(() => told || child.kill('SIGTERM'));
  child.on('error', (error) => {
    console.error(`cannot start node: ${error.message}`);
    process.exit(1);
  });
  child.on('exit', (code, signal) => process.exit(code ?? 128 + constants.signals[signal]));
}

/** Resolved from here, so that the working directory of the caller does not matter. */
function resolveTsx() {
  try {
    return import.meta.resolve('tsx');
  } catch {
    console.error('the dependencies of loramux are not installed; run npm ci in its folder');
    process.exit(1);
  }
}
