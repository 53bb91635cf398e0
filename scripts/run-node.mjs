// Runs Node with TypeScript support as a child that behaves as if it were this process: signals in, exit code out.
import { spawn } from 'node:child_process';
import { constants } from 'node:os';

/** Starts `node --import tsx ...args`; this process ends as the child does. */
export function runNode(args, options = {}) {
  // Resolved here, so that the working directory of the caller does not matter.
  const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), ...args], {
    stdio: 'inherit',
    ...options,
  });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.on(signal, () => {
      // Ctrl-C in a terminal reaches the child by itself; a second one would count as "stop at once".
      if (signal === 'SIGINT' && process.stdin.isTTY) return;
      child.kill(signal);
    });
  }
  child.on('error', (error) => {
    console.error(`cannot start node: ${error.message}`);
    process.exit(1);
  });
  child.on('exit', (code, signal) => process.exit(code ?? 128 + constants.signals[signal]));
}
