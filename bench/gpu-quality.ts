/**
 * `npm run bench -- gpu-quality [--model DIR] [--adapters DIR --names shout,json] [--tokens 512] [--save]`
 *
 * How far each precision of a GPU is from float32, as `quality` tells it for the processor. The graphs are those for the
 * GPU, run by onnxruntime's processor provider, which needs no device with 16-bit floats.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { BoundAdapter } from '../server/adapters/types.js';
import { EmbeddingTable } from '../server/engine/embedding-table.js';
import { openBackend } from '../server/engine/open-backend.js';
import { combine } from '../server/engine/row-adapter.js';
import { GpuRunner } from '../server/engine/webgpu/gpu-runner.js';
import { openModelFolder } from '../server/model/model-folder.js';
import type { GpuPrecision } from '../server/model/webgpu/gpu-precision.js';
import { loadTokenizer } from '../server/text/hf-tokenizer.js';
import { DEMO_MODEL } from './demo.js';
import { readFlags, TEXT } from './flags.js';
import { readAdapter } from './local-engine.js';
import { tell } from './progress.js';
import { compare } from './quality.js';
import { machineName, publish } from './result.js';

const PRECISIONS: readonly (readonly [string, GpuPrecision])[] = [
  ['fp16', { half: true, bits: undefined }],
  ['int8, activations fp32', { half: false, bits: 8 }],
  ['int8, activations fp16', { half: true, bits: 8 }],
  ['int4, activations fp32', { half: false, bits: 4 }],
  ['int4, activations fp16', { half: true, bits: 4 }],
];

export async function run(args: string[]): Promise<void> {
  const values = readFlags(args, {
    model: DEMO_MODEL,
    adapters: TEXT,
    names: '',
    tokens: 512,
    text: new URL('./quality.txt', import.meta.url).pathname,
    save: false,
  });
  const folder = await openModelFolder(values.model);
  const tokenizer = await loadTokenizer(folder.dir);
  const ids = tokenizer.encode(await readFile(values.text, 'utf8'), true).slice(0, values.tokens);
  const exact = await openBackend(folder, { dtype: 'fp32', threads: 2, lora: values.adapters !== undefined });
  const adapters = new Map<string, BoundAdapter>();
  for (const name of values.names.split(',').filter((part) => part !== '')) {
    const adapter = await readAdapter(folder, join(values.adapters ?? '.', name));
    await exact.load(adapter);
    adapters.set(name, adapter);
  }
  const table = await EmbeddingTable.read(folder);
  const rows: (string | number)[][] = [];
  for (const [label, precision] of PRECISIONS) {
    const options = { precision, adapterBytes: Number.POSITIVE_INFINITY, provider: 'cpu' } as const;
    const runner = await GpuRunner.open(folder, table, options);
    for (const [name, adapter] of [['base', undefined] as const, ...adapters]) {
      if (adapter !== undefined) await runner.load(adapter);
      const selection = combine(adapter === undefined ? [] : [{ adapter, weight: 1 }]);
      const { divergence, agreement } = await compare(exact, runner, ids, selection);
      rows.push([label, name, divergence.toFixed(5), (agreement * 100).toFixed(2)]);
      tell(rows.at(-1)!.join(' | '));
    }
    await runner.close();
  }
  await exact.close();
  await folder.close();
  publish(
    {
      name: 'gpu-quality',
      title: 'Precisions of a GPU against float32',
      method: `Next-token distributions at ${ids.length} positions of bench/quality.txt, every position with all tokens before it.`,
      command: 'npm run bench -- gpu-quality --model DIR --adapters DIR --names shout,json',
      machine: machineName(),
      columns: ['precision', 'adapter', 'mean KL', 'first token equal, %'],
      rows,
      notes: ["No GPU was measured: the graphs for a GPU were run by onnxruntime's processor provider."],
    },
    values.save,
  );
}
