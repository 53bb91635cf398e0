/** llama.cpp's server as a child process on a loopback port. */
import { spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { availableParallelism } from 'node:os';
import type { ServerProcess } from '../server-process.js';

/** What it serves. */
export interface LlamaServerOptions {
  /** The program. */
  readonly binary: string;
  /** A GGUF model. */
  readonly model: string;
  /** Requests answered at once. */
  readonly slots: number;
  /** GGUF adapters, loaded and applied only where a request names them. */
  readonly adapters: readonly string[];
}

/** Context per slot: prompt and answer of the bench fit. */
const SLOT_CONTEXT = 512;

/** Starts it and waits until it is healthy. Rejects when it ends before. */
export async function startLlamaServer(options: LlamaServerOptions): Promise<ServerProcess> {
  const port = await freePort();
  const threads = String(availableParallelism());
  const args = ['-m', options.model, '--host', '127.0.0.1', '--port', String(port), '-t', threads, '-tb', threads];
  args.push('-np', String(options.slots), '-c', String(SLOT_CONTEXT * options.slots), '--no-webui');
  if (options.adapters.length > 0) args.push('--lora', options.adapters.join(','), '--lora-init-without-apply');
  const child = spawn(options.binary, args, { stdio: 'ignore' });
  const exited = new Promise<never>((_, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`llama-server ended with code ${code}`)));
  });
  exited.catch(() => {});
  const url = `http://127.0.0.1:${port}`;
  const healthy = async () => {
    while (
      !(await fetch(`${url}/health`)
        .then((answer) => answer.ok)
        .catch(() => false))
    )
      await new Promise((resolve) => setTimeout(resolve, 100));
  };
  await Promise.race([healthy(), exited]);
  return {
    url,
    pid: child.pid!,
    stop: async () => {
      const gone = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGTERM');
      await gone;
    },
  };
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address() as { port: number };
      probe.close(() => resolve(port));
    });
  });
}
