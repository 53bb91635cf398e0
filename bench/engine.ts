/**
 * `npm run bench -- engine [--model DIR] [--adapters DIR] [--dtype int8|fp32] [--rows 1,8,16] [--words 100] [--tokens 64]`
 *
 * The engine alone, in this process: all rows of a load are submitted at once and run to their last token. Tokens per
 * second include the prefill, as peers' figures do. Loads alternate over rounds; the best round is shown.
 */
import type { Dtype } from '../server/engine/decoder-session.js';
import { DEMO_MODEL } from './demo.js';
import { readFlags, TEXT } from './flags.js';
import { adapterNames, type LocalResult, openLocalEngine, story } from './local-engine.js';
import { tellRound } from './progress.js';

export async function run(args: string[]): Promise<void> {
  const values = readFlags(args, {
    model: DEMO_MODEL,
    adapters: TEXT,
    dtype: 'int8',
    threads: 2,
    rows: [1, 8, 16],
    words: 100,
    tokens: 64,
    rounds: 3,
    json: false,
  });
  const sizes = values.rows;
  const most = Math.max(...sizes);
  const names = values.adapters === undefined ? [] : (await adapterNames(values.adapters)).slice(0, most);
  const engine = await openLocalEngine({
    model: values.model,
    dtype: values.dtype as Dtype,
    threads: values.threads,
    adapters: values.adapters === undefined ? undefined : { folder: values.adapters, names },
  });
  const prompts = Array.from({ length: most }, (_, i) => engine.encode(story(i, values.words)));
  const digests = names.map((name) => engine.digests.get(name)!);
  const loads: { label: string; rows: number; digestOf: (row: number) => string | undefined }[] = [];
  for (const rows of sizes) {
    loads.push({ label: `${rows} rows, base`, rows, digestOf: () => undefined });
    if (digests.length > 0) loads.push({ label: `${rows} rows, one adapter`, rows, digestOf: () => digests[0] });
    if (rows > 1 && digests.length >= rows)
      loads.push({ label: `${rows} rows, ${rows} adapters`, rows, digestOf: (row) => digests[row] });
  }
  const best = new Map<string, LocalResult>();
  // One short round warms caches and kernels up.
  for (let round = -1; round < values.rounds; round += 1) {
    for (const { label, rows, digestOf } of loads) {
      const batch = prompts.slice(0, rows).map((promptIds, row) => ({ promptIds, digest: digestOf(row) }));
      const result = await engine.generate(batch, round < 0 ? 4 : values.tokens);
      tellRound(round, values.rounds, label);
      const known = best.get(label);
      if (round >= 0 && (known === undefined || result.totalMs < known.totalMs)) best.set(label, result);
    }
  }
  await engine.close();
  if (values.json) console.log(JSON.stringify({ promptTokens: prompts[0]!.length, ...Object.fromEntries(best) }));
  else for (const [label, result] of best) print(label, result);
}

function print(label: string, { tokensPerSecond, decodeMin, decodeP50, decodeCpu, prefillMs }: LocalResult): void {
  const ms = (value: number) => `${value.toFixed(2).padStart(8)} ms`;
  console.log(
    `${label.padEnd(24)} ${tokensPerSecond.toFixed(1).padStart(7)} tokens/s   decode step min ${ms(decodeMin)} p50 ${ms(decodeP50)} cpu ${ms(decodeCpu)}   prefill of a row ${ms(prefillMs)}`,
  );
}
