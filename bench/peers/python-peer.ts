/** A peer that runs in a Python process of its own: the loads go in as JSON, one figure per load comes back. */
import { spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';

/** Rows that are given to the peer together. */
export interface InProcessLoad {
  readonly label: string;
  readonly prompts: readonly string[];
  /** By row: index into the task's adapters; null = base. */
  readonly adapters: readonly (number | null)[];
}

/** What is to be run without HTTP. */
export interface InProcessWork {
  readonly model: string;
  readonly newTokens: number;
  readonly loads: readonly InProcessLoad[];
}

/** A script beside this file and what it is to do. */
export interface InProcessTask extends InProcessWork {
  readonly python: string;
  readonly script: string;
  readonly adapters: readonly string[];
}

/** Runs the script; tokens per second go to `figures` by label. Rejects when the script fails. */
export async function runInProcess(task: InProcessTask, figures: Map<string, number>): Promise<void> {
  const { python, script, ...rest } = task;
  const child = spawn(python, [fileURLToPath(new URL(script, import.meta.url))], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  child.stdin.end(JSON.stringify({ ...rest, threads: availableParallelism() }));
  let output = '';
  child.stdout.on('data', (data: Buffer) => {
    output += data.toString();
  });
  const code = await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  if (code !== 0) throw new Error(`${script} ended with code ${code}`);
  for (const line of output.split('\n').filter((text) => text.startsWith('{'))) {
    const { label, tokensPerSecond } = JSON.parse(line) as { label: string; tokensPerSecond: number };
    figures.set(label, tokensPerSecond);
    console.error(`${label}: ${script} ${tokensPerSecond.toFixed(1)} tokens/s`);
  }
}
