/** The real server in a process of its own, for tests of the whole path. */
import { spawn } from 'node:child_process';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';

const bin = fileURLToPath(new URL('../../bin/loramux.mjs', import.meta.url));

/** Starts `loramux serve` on a free port and ends it with the test. @returns its base URL */
export async function startServer(t: TestContext, flags: readonly string[]): Promise<string> {
  const { url, stop } = await spawnServer(flags);
  t.after(stop);
  return url;
}

/**
 * Starts `loramux serve` on a free port; `stop` ends it, `kill` at once, and both wait for that.
 * @param env added to this process's
 * @param before a command that starts the one behind it
 * @returns its base URL, its process, and `output` for what it has written so far
 */
export async function spawnServer(
  flags: readonly string[],
  env: Readonly<Record<string, string>> = {},
  before: readonly string[] = [],
): Promise<{ url: string; pid: number; output(): string; stop(): Promise<void>; kill(): Promise<void> }> {
  const [program, ...args] = [...before, process.execPath, bin, 'serve', '--port', '0', ...flags];
  const child = spawn(program!, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  });
  let written = '';
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const stop = async () => {
    child.kill('SIGTERM');
    await ended;
  };
  child.stderr.on('data', (data) => {
    written += data;
  });
  const url = await new Promise<string>((resolve, reject) => {
    child.stdout.on('data', (data) => {
      written += data;
      const found = /http:\/\/[\w.:[\]]+\d/.exec(written)?.[0];
      if (found) resolve(found);
    });
    child.once('exit', (code) => reject(new Error(`the server ended with ${code} before it served: ${written}`)));
  });
  const kill = async () => {
    child.kill('SIGKILL');
    await ended;
  };
  return { url, pid: child.pid!, output: () => written, stop, kill };
}
