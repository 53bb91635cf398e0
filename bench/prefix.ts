/**
 * `npm run bench -- prefix [--model DIR] [--adapters DIR] [--prefix-tokens 1000] [--rounds 5] [--save]`
 *
 * Time to first token of prompts that share a long beginning: the first of them, the next ones, and those of others.
 */

import { contextOf } from './context.js';
import { passedOn, readFlags, TEXT } from './flags.js';
import { wordsFor } from './interleave.js';
import { percentile, prompt } from './load.js';
import { tell } from './progress.js';
import { machineName, publish } from './result.js';
import { startServer } from './server-process.js';
import { followStream, type StreamTimes } from './stream.js';

export async function run(args: string[]): Promise<void> {
  const values = readFlags(args, {
    model: TEXT,
    adapters: TEXT,
    'prefix-tokens': 1000,
    rounds: 5,
    save: false,
  });
  const flags = passedOn(values, 'model', 'adapters');
  const server = await startServer(flags);
  try {
    const listed = (await (await fetch(`${server.url}/adapters?limit=2`)).json()) as { adapters: { name: string }[] };
    const names = listed.adapters.map(({ name }) => name);
    const words = await wordsFor(server.url, Math.min(values['prefix-tokens'], (await contextOf(server.url)) - 100));
    const kinds = ['first', 'again, other question', 'same words under another adapter'] as const;
    const found = new Map<string, { ms: number; times: StreamTimes }[]>(kinds.map((kind) => [kind, []]));
    const ask = async (kind: string, text: string, adapter: string | undefined) => {
      const times = await followStream(server.url, { prompt: text, newTokens: 1, adapter });
      found.get(kind)?.push({ ms: times.tokensAt[0]! - times.startedAt, times });
    };
    await ask('warm-up', prompt(1, words), names[0]);
    for (let round = 0; round < values.rounds; round += 1) {
      tell(`round ${round + 1} of ${values.rounds}`);
      const prefix = prompt(100 + round, words);
      await ask('first', `${prefix} What is it?`, names[0]);
      await ask('again, other question', `${prefix} Who was there?`, names[0]);
      if (names.length > 0) await ask('same words under another adapter', `${prefix} What is it?`, names[1]);
    }
    const first = percentile(
      found.get('first')!.map(({ ms }) => ms),
      0.5,
    );
    publish(
      {
        name: 'prefix',
        title: 'Prompts that share a long beginning',
        method:
          'Time to first token over HTTP, one request at a time, median of the rounds; each round has its own prefix.',
        command: `npm run bench -- prefix --model DIR --adapters DIR --prefix-tokens ${values['prefix-tokens']} --rounds ${values.rounds}`,
        machine: machineName(),
        columns: ['request', 'prompt tokens', 'of them cached', 'first token ms', 'share of the first'],
        rows: kinds.flatMap((kind) => {
          const all = found.get(kind)!;
          if (all.length === 0) return [];
          const ms = percentile(
            all.map((one) => one.ms),
            0.5,
          );
          const { promptTokens, cachedTokens } = all[0]!.times;
          return [[kind, promptTokens, cachedTokens, ms.toFixed(1), `${((ms / first) * 100).toFixed(1)} %`]];
        }),
      },
      values.save,
    );
  } finally {
    await server.stop();
  }
}
