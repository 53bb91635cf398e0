/**
 * `npm run bench -- http [--model DIR] [--adapters DIR] [--dtype fp32|int8] [--tokens 64] [--words 100] [--streams 1,8]`
 *
 * Closed-loop streaming load; one line per load: base, one adapter for all streams, and a different adapter for each.
 */

import { passedOn, readFlags, TEXT } from './flags.js';
import { type LoadResult, runLoad } from './load.js';
import { startServer } from './server-process.js';

export async function run(args: string[]): Promise<void> {
  const values = readFlags(args, {
    model: TEXT,
    adapters: TEXT,
    dtype: TEXT,
    tokens: 64,
    words: 100,
    streams: [1, 8],
    rounds: 3,
    json: false,
  });
  const flags = passedOn(values, 'model', 'adapters', 'dtype');
  const server = await startServer(flags);
  try {
    const listed = (await (await fetch(`${server.url}/adapters?limit=100`)).json()) as { adapters: { name: string }[] };
    const names = listed.adapters.map(({ name }) => name);
    const results: Record<string, LoadResult> = {};
    for (const streams of values.streams) {
      const distinct = names.slice(0, streams);
      const loads: [string, string[]][] = [['base', []]];
      if (names.length > 0) loads.push(['one adapter', names.slice(0, 1)]);
      if (distinct.length > 1) loads.push([`${distinct.length} adapters`, distinct]);
      for (const [label, adapters] of loads) {
        const result = await runLoad({
          url: server.url,
          streams,
          requests: streams * values.rounds,
          maxNewTokens: values.tokens,
          promptWords: values.words,
          adapters,
        });
        results[`${streams} streams, ${label}`] = result;
        if (!values.json) print(`${streams} streams, ${label}`, result);
      }
    }
    if (values.json) console.log(JSON.stringify(results, null, 2));
  } finally {
    await server.stop();
  }
}

function print(label: string, result: LoadResult): void {
  const ms = (value: number) => `${value.toFixed(1).padStart(8)} ms`;
  console.log(
    `${label.padEnd(26)} ${result.tokensPerSecond.toFixed(1).padStart(7)} tokens/s   first token p50 ${ms(result.firstTokenP50)} p99 ${ms(result.firstTokenP99)}` +
      `   between tokens p50 ${ms(result.interTokenP50)} p99 ${ms(result.interTokenP99)}${result.failed > 0 ? `   FAILED ${result.failed}` : ''}`,
  );
}
