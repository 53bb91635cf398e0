/**
 * `npm run bench -- scale [--model DIR --adapters DIR] [--registered 2000] [--budget 64] [--callers 8] [--tokens 16]
 *   [--requests 600] [--save]`
 *
 * Many registered adapters under a memory budget, against few: Zipf traffic, and working sets at and above the budget.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { randomNumbers, zipf } from './arrivals.js';
import { DEMO_ADAPTERS } from './demo.js';
import { passedOn, readFlags, TEXT } from './flags.js';
import { percentile, prompt } from './load.js';
import { bytesOf, makeAdapters, registerAll } from './many-adapters.js';
import { residentMiB } from './process-cost.js';
import { tell } from './progress.js';
import { machineName, publish } from './result.js';
import { type ServerProcess, startServer } from './server-process.js';
import { followStream } from './stream.js';

/** What a load gave. */
interface Load {
  readonly tokensPerSecond: number;
  readonly firstP50: number;
  readonly firstP99: number;
}

export async function run(args: string[]): Promise<void> {
  const values = readFlags(args, {
    model: TEXT,
    adapters: DEMO_ADAPTERS,
    registered: 2000,
    budget: 64,
    callers: 8,
    tokens: 16,
    requests: 600,
    save: false,
  });
  const { registered, budget, callers } = values;
  const place = mkdtempSync(join(tmpdir(), 'loramux-scale-'));
  const none = join(place, 'none');
  mkdirSync(none);
  const folders = makeAdapters(values.adapters, join(place, 'made'), registered);
  const flags = [...passedOn(values, 'model'), '--adapters', none];
  const common = [...flags, '--allow-path', place, '--state-dir', 'none'];
  const servers: ServerProcess[] = [];
  try {
    const few = await startServer(common);
    servers.push(few);
    const fewNames = await registerAll(few.url, folders.slice(0, callers), true);
    const bytes = Math.max(...(await Promise.all(fewNames.map((name) => bytesOf(few.url, name)))));
    const many = await startServer([...common, '--adapter-bytes', String(Math.floor(bytes * (budget + 0.5)))]);
    servers.push(many);
    const before = residentMiB(many.pid);
    const from = performance.now();
    tell(`registering ${registered} adapters`);
    const names = await registerAll(many.url, folders, false);
    const registering = (performance.now() - from) / registered;
    const metadata = residentMiB(many.pid) - before;

    const load = (server: ServerProcess, pick: (request: number) => string, seed: number) =>
      runLoad(server.url, pick, seed, callers, values.requests, values.tokens);
    const random = randomNumbers(7);
    const ofFew = () => fewNames[Math.floor(random() * fewNames.length)]!;
    const rank = zipf(registered, 1);
    const byZipf = () => names[rank(random)]!;
    const among = (count: number) => () => names[Math.floor(random() * count)]!;
    const rows: (string | number)[][] = [];
    // Every load once so that it is warm, then each in turn, twice; the better round counts.
    const loads: [string, ServerProcess, () => string][] = [
      [`${callers} registered, all in use`, few, ofFew],
      [`${registered} registered, the same ${callers} in use`, many, among(callers)],
      [`${registered} registered, ${budget} in use (the budget)`, many, among(budget)],
      [`${registered} registered, ${budget + 1} in use`, many, among(budget + 1)],
      [`${registered} registered, Zipf 1.0 over all`, many, byZipf],
    ];
    const best = new Map<string, Load>();
    for (let round = 0; round < 2; round += 1) {
      for (const [label, server, pick] of loads) {
        await load(server, pick, round * 10_000);
        const result = await load(server, pick, round * 10_000 + 5000);
        const known = best.get(label);
        if (known === undefined || result.tokensPerSecond > known.tokensPerSecond) best.set(label, result);
        tell(`${label}: ${result.tokensPerSecond.toFixed(0)} tokens/s`);
      }
    }
    const reference = best.get(loads[0]![0])!.tokensPerSecond;
    for (const [label] of loads) {
      const { tokensPerSecond, firstP50, firstP99 } = best.get(label)!;
      const share = `${((tokensPerSecond / reference) * 100).toFixed(0)} %`;
      rows.push([label, tokensPerSecond.toFixed(0), share, firstP50.toFixed(1), firstP99.toFixed(1)]);
    }
    publish(
      {
        name: 'scale',
        title: `${registered} registered adapters, memory for ${budget}`,
        method: `${callers} callers stream ${values.tokens} tokens each, again and again; each request names an adapter at random from those in use. ${(bytes / 1024).toFixed(0)} KiB an adapter in memory.`,
        command: `npm run bench -- scale${values.model === undefined ? '' : ' --model DIR --adapters DIR'} --registered ${registered}`,
        machine: machineName(),
        columns: ['load', 'tokens/s', `of ${callers} registered`, 'first token p50 ms', 'first token p99 ms'],
        rows,
        notes: [
          `registering took ${registering.toFixed(1)} ms an adapter and ${((metadata * 1024) / registered).toFixed(1)} KiB of resident memory; files are read at first use`,
          'with more adapters in use than the budget holds, a request whose adapter was evicted reads its file first',
        ],
      },
      values.save,
    );
  } finally {
    for (const server of servers) await server.stop();
    rmSync(place, { recursive: true });
  }
}

async function runLoad(
  url: string,
  pick: (request: number) => string,
  seed: number,
  callers: number,
  requests: number,
  newTokens: number,
): Promise<Load> {
  const first: number[] = [];
  let next = 0;
  let tokens = 0;
  const from = performance.now();
  const caller = async () => {
    while (next < requests) {
      const request = next++;
      const text = prompt(seed + request, 12);
      const { startedAt, tokensAt } = await followStream(url, { prompt: text, newTokens, adapter: pick(request) });
      first.push(tokensAt[0]! - startedAt);
      tokens += tokensAt.length;
    }
  };
  await Promise.all(Array.from({ length: callers }, caller));
  const seconds = (performance.now() - from) / 1000;
  return {
    tokensPerSecond: tokens / seconds,
    firstP50: percentile(first, 0.5),
    firstP99: percentile(first, 0.99),
  };
}
