// Runs Node as a child that behaves as if it were this process: signals in, exit code out.
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { onOrphaned } from './orphan.mjs';

/** Starts `node ...args`; this process ends as the child does. */
export function runNode(args, options = {}) {
  const child = spawn(process.execPath, args, { stdio: 'inherit', ...options });
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
