/**
 * `npm run bench -- quality [--model DIR] [--adapters DIR] [--names shout,json] [--dtype int8] [--text FILE] [--save]`
 *
 * How far the fast arithmetic is from float32: over a page of text, the mean Kullback-Leibler divergence of the next
 * token's distribution, and how often both name the same token first. The adapters are the same in both.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { StepBackend } from '../server/engine/backend.js';
import type { Dtype } from '../server/engine/decoder-session.js';
import { openBackend } from '../server/engine/open-backend.js';
import { combine, type RowAdapter } from '../server/engine/row-adapter.js';
import { openModelFolder } from '../server/model/model-folder.js';
import { loadTokenizer } from '../server/text/hf-tokenizer.js';
import { DEMO_MODEL } from './demo.js';
import { readFlags, TEXT } from './flags.js';
import { adapterNames, readAdapter } from './local-engine.js';
import { tell } from './progress.js';
import { machineName, publish } from './result.js';

/** Tokens of a step. */
const CHUNK = 128;

export async function run(args: string[]): Promise<void> {
  const values = readFlags(args, {
    model: DEMO_MODEL,
    adapters: TEXT,
    names: TEXT,
    dtype: 'int8',
    text: new URL('./quality.txt', import.meta.url).pathname,
    threads: 2,
    save: false,
  });
  const folder = await openModelFolder(values.model);
  const tokenizer = await loadTokenizer(folder.dir);
  const ids = tokenizer.encode(await readFile(values.text, 'utf8'), true).slice(0, folder.spec.contextLength);
  const options = { threads: values.threads, lora: values.adapters !== undefined };
  const exact = await openBackend(folder, { ...options, dtype: 'fp32' });
  const fast = await openBackend(folder, { ...options, dtype: values.dtype as Dtype });
  const selections: [string, RowAdapter][] = [['base', combine([])]];
  if (values.adapters !== undefined) {
    for (const name of values.names?.split(',') ?? (await adapterNames(values.adapters))) {
      const adapter = await readAdapter(folder, join(values.adapters, name));
      await exact.load(adapter);
      await fast.load(adapter);
      selections.push([name, combine([{ adapter, weight: 1 }])]);
    }
  }
  const rows: (string | number)[][] = [];
  for (const [name, adapter] of selections) {
    const { divergence, agreement } = await compare(exact, fast, ids, adapter);
    rows.push([name, divergence.toFixed(5), (agreement * 100).toFixed(2)]);
    tell(`${name}: mean KL ${divergence.toFixed(5)}, first token equal ${(agreement * 100).toFixed(2)} %`);
  }
  await Promise.all([exact.close(), fast.close()]);
  await folder.close();
  publish(
    {
      name: 'quality',
      title: `${values.dtype} against float32`,
      method: `Next-token distributions at ${ids.length} positions of bench/quality.txt, every position with all tokens before it.`,
      command: 'npm run bench -- quality --model DIR --adapters DIR --names shout,json',
      machine: machineName(),
      columns: ['adapter', 'mean KL', 'first token equal, %'],
      rows,
    },
    values.save,
  );
}

/** Runs the text through both, chunk by chunk, so that logits of one chunk only are held. */
export async function compare(
  exact: StepBackend,
  fast: StepBackend,
  ids: readonly number[],
  adapter: RowAdapter,
): Promise<{ divergence: number; agreement: number }> {
  const { vocabSize } = exact.spec;
  const stores = [exact.createStore(1, ids.length), fast.createStore(1, ids.length)] as const;
  let divergence = 0;
  let equal = 0;
  for (let from = 0; from < ids.length; from += CHUNK) {
    const chunk = ids.slice(from, from + CHUNK);
    const all = chunk.map((_, i) => i);
    const reference = await exact.prefill(chunk, from, stores[0], adapter, all, ids.length);
    const logits = await fast.prefill(chunk, from, stores[1], adapter, all, ids.length);
    for (const i of all) {
      const p = logProbabilities(reference.subarray(i * vocabSize, (i + 1) * vocabSize));
      const q = logProbabilities(logits.subarray(i * vocabSize, (i + 1) * vocabSize));
      for (let token = 0; token < vocabSize; token += 1) divergence += Math.exp(p[token]!) * (p[token]! - q[token]!);
      if (argmax(p) === argmax(q)) equal += 1;
    }
  }
  for (const store of stores) store.release();
  return { divergence: divergence / ids.length, agreement: equal / ids.length };
}

function logProbabilities(logits: Float32Array): Float64Array {
  const most = logits.reduce((max, value) => Math.max(max, value), Number.NEGATIVE_INFINITY);
  const total = logits.reduce((sum, value) => sum + Math.exp(value - most), 0);
  return Float64Array.from(logits, (value) => value - most - Math.log(total));
}

function argmax(values: Float64Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i += 1) if (values[i]! > values[best]!) best = i;
  return best;
}
