/**
 * `npm run bench -- http [--model DIR] [--adapters DIR] [--dtype fp32|int8] [--tokens 64] [--words 100] [--streams 1,8]`
 *
 * Starts the server on a free loopback port, puts closed-loop streaming load on it, and prints one line per load: base,
 * one adapter for all streams, and a different adapter for each. Nothing is asserted; compare lines of one run only.
 */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { type LoadResult, runLoad } from './load.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    model: { type: 'string' },
    adapters: { type: 'string' },
    dtype: { type: 'string' },
    tokens: { type: 'string', default: '64' },
    words: { type: 'string', default: '100' },
    streams: { type: 'string', default: '1,8' },
    rounds: { type: 'string', default: '3' },
    json: { type: 'boolean', default: false },
  },
});
if (positionals[0] !== 'http') {
  console.error(
    'usage: npm run bench -- http [--model DIR] [--adapters DIR] [--dtype D] [--tokens N] [--words N] [--streams 1,8]',
  );
  process.exit(2);
}

const flags = ['--port', '0', '--log-level', 'error'];
for (const name of ['model', 'adapters', 'dtype'] as const)
  if (values[name] !== undefined) flags.push(`--${name}`, values[name]);
const main = fileURLToPath(new URL('../server/main.ts', import.meta.url));
const server = spawn(process.execPath, ['--import', 'tsx', main, 'serve', ...flags], {
  stdio: ['ignore', 'pipe', 'inherit'],
});
const url = await new Promise<string>((resolve, reject) => {
  let output = '';
  server.stdout.on('data', (data: Buffer) => {
    output += data.toString();
    const found = /http:\/\/[\w.:[\]]+\d/.exec(output)?.[0];
    if (found !== undefined) resolve(found);
  });
  server.once('exit', (code) => reject(new Error(`the server ended with code ${code}`)));
});

try {
  const listed = (await (await fetch(`${url}/adapters?limit=100`)).json()) as { adapters: { name: string }[] };
  const names = listed.adapters.map(({ name }) => name);
  const results: Record<string, LoadResult>[] = [];
  for (const streams of values.streams.split(',').map(Number)) {
    const distinct = names.slice(0, streams);
    const loads: [string, string[]][] = [['base', []]];
    if (names.length > 0) loads.push(['one adapter', names.slice(0, 1)]);
    if (distinct.length > 1) loads.push([`${distinct.length} adapters`, distinct]);
    for (const [label, adapters] of loads) {
      const result = await runLoad({
        url,
        streams,
        requests: streams * Number(values.rounds),
        maxNewTokens: Number(values.tokens),
        promptWords: Number(values.words),
        adapters,
      });
      results.push({ [`${streams} streams, ${label}`]: result });
      if (!values.json) print(`${streams} streams, ${label}`, result);
    }
  }
  if (values.json) console.log(JSON.stringify(results, null, 2));
} finally {
  server.kill('SIGTERM');
}

function print(label: string, result: LoadResult): void {
  const ms = (value: number) => `${value.toFixed(1).padStart(8)} ms`;
  console.log(
    `${label.padEnd(26)} ${result.tokensPerSecond.toFixed(1).padStart(7)} tokens/s   first token p50 ${ms(result.firstTokenP50)} p99 ${ms(result.firstTokenP99)}` +
      `   between tokens p50 ${ms(result.interTokenP50)} p99 ${ms(result.interTokenP99)}${result.failed > 0 ? `   FAILED ${result.failed}` : ''}`,
  );
}
