/** `npm run bench -- COMMAND [FLAGS]`: one command per published table. Nothing is asserted; compare lines of one run only. */

import { FlagError } from './flags.js';

/** A bench command: what it shows, and the module whose `run` gets the arguments behind its name. */
interface Command {
  readonly shows: string;
  readonly load: () => Promise<{ run(args: string[]): Promise<void> }>;
}

const COMMANDS: Readonly<Record<string, Command>> = {
  http: { shows: 'tokens per second and latencies over HTTP', load: () => import('./http.js') },
  peers: { shows: 'the same load on us, llama.cpp, OpenVINO GenAI and PEFT', load: () => import('./peers.js') },
  interleave: { shows: 'running streams while long prompts are read', load: () => import('./interleave.js') },
  prefix: { shows: 'prompts that share a long beginning', load: () => import('./prefix.js') },
  memory: { shows: 'resident memory with many adapters at work', load: () => import('./memory.js') },
  simulate: { shows: 'fairness and starvation of the scheduler, simulated', load: () => import('./simulate.js') },
  scale: { shows: 'many registered adapters under a memory budget', load: () => import('./scale.js') },
  coldstart: {
    shows: 'first tokens when adapter or server must be read first',
    load: () => import('./coldstart.js'),
  },
  gpu: { shows: 'a WebGPU device beside the processor; dispatches of a step', load: () => import('./gpu.js') },
  'gpu-quality': {
    shows: 'how far the precisions of a GPU are from float32',
    load: () => import('./gpu-quality.js'),
  },
  overhead: { shows: 'requests per second of the server around the model', load: () => import('./overhead.js') },
  engine: { shows: 'the engine alone: tokens per second and milliseconds per step', load: () => import('./engine.js') },
  retention: { shows: 'what adapters cost in a decode step', load: () => import('./retention.js') },
  merged: { shows: 'an adapter merged into the weights, and beside them', load: () => import('./merged.js') },
  lookup: { shows: 'a row by itself that guesses tokens from its own text', load: () => import('./lookup.js') },
  quality: { shows: 'how far the fast arithmetic is from float32', load: () => import('./quality.js') },
};

const [name, ...args] = process.argv.slice(2);
const command = name === undefined ? undefined : COMMANDS[name];
if (command === undefined) {
  console.error('usage: npm run bench -- COMMAND [FLAGS]');
  for (const [key, { shows }] of Object.entries(COMMANDS)) console.error(`  ${key.padEnd(12)} ${shows}`);
  process.exitCode = 2;
} else {
  // As the server: onnxruntime is to report nothing (docs/decisions/0092).
  process.env.ORT_DISABLE_TELEMETRY ??= '1';
  const { run } = await command.load();
  try {
    await run(args);
  } catch (error) {
    if (!(error instanceof FlagError)) throw error;
    console.error(error.message);
    process.exitCode = 2;
  }
}
