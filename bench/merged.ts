/**
 * `npm run bench -- merged [--model DIR] [--adapters DIR] [--adapter NAME] [--dtype int8|fp32] [--rows 1,8] [--tokens 64] [--save]`
 *
 * When merging an adapter pays: tokens per second of the model with the adapter merged into its weights, of the same adapter
 * unmerged, and of the base, which is what merging can reach at best. Both engines are in this process and take turns.
 */
import type { Dtype } from '../server/engine/decoder-session.js';
import { DEMO_ADAPTERS, DEMO_MODEL } from './demo.js';
import { readFlags, TEXT } from './flags.js';
import { adapterNames, type LocalEngine, type LocalResult, openLocalEngine, story } from './local-engine.js';
import { tellRound } from './progress.js';
import { machineName, publish } from './result.js';

interface Load {
  readonly label: string;
  readonly rows: number;
  readonly engine: LocalEngine;
  readonly digest: string | undefined;
}

export async function run(args: string[]): Promise<void> {
  const values = readFlags(args, {
    model: DEMO_MODEL,
    adapters: DEMO_ADAPTERS,
    adapter: TEXT,
    dtype: 'int8',
    threads: 2,
    rows: [1, 8],
    words: 100,
    tokens: 64,
    rounds: 3,
    save: false,
  });
  const { model, adapters: folder } = values;
  const name = values.adapter ?? (await adapterNames(folder))[0];
  if (name === undefined) throw new Error(`there is no adapter in ${folder}`);
  const dtype = values.dtype as Dtype;
  const { threads, words, tokens } = values;
  const adapters = { folder, names: [name] };
  const unmerged = await openLocalEngine({ model, dtype, threads, adapters });
  const merged = await openLocalEngine({ model, dtype, threads, merge: adapters });
  const sizes = values.rows;
  const loads = sizes.flatMap((rows): Load[] => [
    { label: 'merged', rows, engine: merged, digest: undefined },
    { label: 'unmerged', rows, engine: unmerged, digest: unmerged.digests.get(name) },
    { label: 'base', rows, engine: unmerged, digest: undefined },
  ]);
  const best = new Map<Load, LocalResult>();
  for (let round = -1; round < values.rounds; round += 1) {
    for (const load of loads) {
      const { engine, digest } = load;
      const rows = Array.from({ length: load.rows }, (_, i) => ({ promptIds: engine.encode(story(i, words)), digest }));
      const result = await engine.generate(rows, round < 0 ? 3 : tokens);
      tellRound(round, values.rounds, `${load.rows} rows, ${load.label}`);
      const known = best.get(load);
      if (round >= 0 && (known === undefined || result.tokensPerSecond > known.tokensPerSecond)) best.set(load, result);
    }
  }
  await unmerged.close();
  await merged.close();
  publish(
    {
      name: 'merged',
      title: 'An adapter merged into the weights, and beside them',
      method:
        `Tokens per second of ${tokens} tokens after prompts of ${words} words, prefill included; ${values.dtype}, ` +
        `${threads} threads, one adapter; best of ${values.rounds} alternating rounds.`,
      command: 'npm run bench -- merged --model DIR --adapters DIR',
      machine: machineName(),
      columns: ['streams', 'merged, tokens/s', 'unmerged, tokens/s', 'base, tokens/s', 'merged / unmerged'],
      rows: sizes.map((rows) => {
        const of = (label: string) =>
          best.get(loads.find((load) => load.rows === rows && load.label === label)!)!.tokensPerSecond;
        const numbers = ['merged', 'unmerged', 'base'].map((label) => of(label).toFixed(1));
        return [`${rows}`, ...numbers, (of('merged') / of('unmerged')).toFixed(2)];
      }),
      plot: { columns: ['merged, tokens/s', 'unmerged, tokens/s', 'base, tokens/s'], unit: 'tokens/s' },
    },
    values.save,
  );
}
