/** A loramux server as a child process on a free loopback port, for load over the wire. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const SETTLE_MS = 5000;

/** A running server. */
export interface ServerProcess {
  readonly url: string;
  readonly pid: number;
  /** Ends it and waits until it is gone. */
  stop(): Promise<void>;
}

/**
 * Starts `loramux serve` with the flags given. Rejects when it ends before it answers.
 * @param root checkout of the project whose server it is; default: this one
 * @param nodeFlags for Node itself, as for a profile
 */
export async function startServer(
  flags: readonly string[],
  root = fileURLToPath(new URL('..', import.meta.url)),
  nodeFlags: readonly string[] = [],
): Promise<ServerProcess> {
  const args = [...nodeFlags, join(root, 'bin/loramux.mjs'), 'serve', '--port', '0', '--log-level', 'error', ...flags];
  const child = spawn(process.execPath, args, { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] });
  const url = await new Promise<string>((resolve, reject) => {
    let output = '';
    child.stdout.on('data', (data: Buffer) => {
      output += data.toString();
      const found = /http:\/\/[\w.:[\]]+\d/.exec(output)?.[0];
      if (found !== undefined) resolve(found);
    });
    child.once('exit', (code) => reject(new Error(`the server ended with code ${code}`)));
  });
  return {
    url,
    pid: child.pid!,
    stop: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const gone = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGTERM');
      await gone;
    },
  };
}

/** Waits until a server that has just started has prepared what later requests need, where that is not to be measured. */
export const settled = (): Promise<void> => wait(SETTLE_MS);
