/** A real S3 server (versitygw, a gateway over a folder) on a loopback port, with signatures checked. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { homedir, tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';

/** Where `go install` puts programs, beside the PATH. */
const PATH = [process.env.PATH, join(process.env.GOPATH ?? join(homedir(), 'go'), 'bin')].join(delimiter);

/** True where the server is installed. */
export const hasS3Server =
  spawnSync('versitygw', ['--version'], { env: { ...process.env, PATH }, stdio: 'ignore' }).status === 0;

/** What keys the server takes. */
export const KEYS = { accessKeyId: 'AKIDLORAMUX', secretAccessKey: 'S3CR3T-of-the-tests' };

export interface S3Server {
  readonly endpoint: string;
  close(): Promise<void>;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(true));
    socket.once('error', () => resolve(false));
    socket.once('close', () => socket.destroy());
  });
}

/** Starts it on an empty folder and waits until it answers. */
export async function startS3(): Promise<S3Server> {
  const dir = mkdtempSync(join(tmpdir(), 's3-'));
  const port = await freePort();
  const data = join(dir, 'data');
  const sidecar = join(dir, 'meta');
  for (const folder of [data, sidecar]) mkdirSync(folder);
  const args = ['--port', `127.0.0.1:${port}`, '--access', KEYS.accessKeyId, '--secret', KEYS.secretAccessKey, '-q'];
  // A sidecar folder for what the file system of a test machine may not keep as extended attributes.
  const child: ChildProcess = spawn('versitygw', [...args, 'posix', '--sidecar', sidecar, data], {
    env: { ...process.env, PATH },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  while (child.exitCode === null && !(await answers(port))) await new Promise((resolve) => setTimeout(resolve, 50));
  if (child.exitCode !== null) throw new Error(`versitygw ended with code ${child.exitCode}`);
  return {
    endpoint: `http://127.0.0.1:${port}`,
    close: async () => {
      // It has nothing to keep, and would wait for idle connections.
      child.kill('SIGKILL');
      await ended;
      rmSync(dir, { recursive: true });
    },
  };
}
