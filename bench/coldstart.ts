/**
 * `npm run bench -- coldstart [--model DIR] [--adapters DIR] [--dtype int8] [--loads 24] [--streams 8] [--save]`
 *
 * First tokens when something has to be read first: an adapter that is only on disk, or the whole server; and the pace of
 * running streams while adapters load.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { contextOf } from './context.js';
import { DEMO_ADAPTERS } from './demo.js';
import { passedOn, readFlags, TEXT } from './flags.js';
import { percentile, prompt } from './load.js';
import { makeAdapters, register, registerAll } from './many-adapters.js';
import { tell } from './progress.js';
import { machineName, publish } from './result.js';
import { type ServerProcess, settled, startServer } from './server-process.js';
import { followStream } from './stream.js';

/** Adapters that load at a time while streams run. */
const AT_ONCE = 4;
/** How long nothing loads before each time that something does. */
const QUIET_MS = 1000;

export async function run(args: string[]): Promise<void> {
  const values = readFlags(args, {
    model: TEXT,
    adapters: DEMO_ADAPTERS,
    dtype: 'int8',
    loads: 24,
    streams: 8,
    save: false,
  });
  const { loads, adapters } = values;
  const place = mkdtempSync(join(tmpdir(), 'loramux-cold-'));
  const none = join(place, 'none');
  mkdirSync(none);
  const folders = makeAdapters(adapters, join(place, 'made'), loads * 2);
  const common = [
    ...passedOn(values, 'model'),
    ...['--adapters', none, '--allow-path', place, '--state-dir', 'none', '--dtype', values.dtype],
    ...['--cache-dir', join(place, 'cache'), '--prefix-cache-bytes', '0', '--adapter-bytes', '8GiB'],
  ];
  let server: ServerProcess | undefined;
  try {
    // The compiled copy is made by whatever runs first: it is not what this is about.
    execFileSync(process.execPath, [fileURLToPath(new URL('../bin/loramux.mjs', import.meta.url)), '--version']);
    const starts: number[] = [];
    for (let start = 0; start < 3; start += 1) {
      await server?.stop();
      const from = performance.now();
      server = await startServer(common);
      await followStream(server.url, { prompt: prompt(start, 20), newTokens: 1 });
      starts.push(performance.now() - from);
      tell(`start ${start + 1} of 3: ${starts.at(-1)!.toFixed(0)} ms to the first token`);
    }
    const { url } = server!;
    await settled();
    tell(`first tokens with ${loads} adapters`);
    const { cold, warm, read } = await firstTokens(url, folders.slice(0, loads));
    tell(`${loads} adapters beside ${values.streams} streams`);
    const { quiet, disturbed, loadMs } = await whileLoading(url, folders.slice(loads), values.streams);
    const ms = (of: readonly number[], share: number) => percentile(of, share).toFixed(1);
    const row = (label: string, of: readonly number[]) => [label, of.length, ms(of, 0.5), ms(of, 0.99)];
    const ratio = percentile(cold, 0.5) / (percentile(warm, 0.5) + percentile(read, 0.5));
    publish(
      {
        name: 'coldstart',
        title: 'First tokens when something has to be read first',
        method: `Prompts of 20 words. Then ${values.streams} streams run; a second in which nothing loads and ${AT_ONCE} adapters that are loaded at once take turns. Files lie in the system's page cache, and the sources are compiled already.`,
        command: `npm run bench -- coldstart${values.model === undefined ? '' : ' --model DIR --adapters DIR'} --dtype ${values.dtype}`,
        machine: machineName(),
        columns: ['time', 'count', 'p50 ms', 'p99 ms'],
        rows: [
          [
            'server: process start to first token, no cache of weights',
            1,
            starts[0]!.toFixed(0),
            starts[0]!.toFixed(0),
          ],
          row('the same, weights converted before', starts.slice(1)),
          row('first token, adapter in memory', warm),
          row('reading the adapter file alone', read),
          row('first token, adapter only on disk', cold),
          row('between tokens, nothing loads', quiet),
          row(`between tokens, ${AT_ONCE} adapters load`, disturbed),
          row('registering and loading an adapter beside the streams', loadMs),
        ],
        notes: [
          `from disk: ${ratio.toFixed(2)} times warm + file read, by medians`,
          `while adapters load the 99th percentile between tokens is ${(percentile(disturbed, 0.99) / percentile(quiet, 0.99)).toFixed(2)} times the quiet one, the median ${(percentile(disturbed, 0.5) / percentile(quiet, 0.5)).toFixed(2)} times`,
        ],
      },
      values.save,
    );
  } finally {
    await server?.stop();
    rmSync(place, { recursive: true });
  }
}

/** First tokens from each adapter: not in memory, then in memory. */
async function firstTokens(url: string, folders: readonly string[]) {
  const [cold, warm, read]: [number[], number[], number[]] = [[], [], []];
  const names = await registerAll(url, folders, false);
  for (let i = 0; i < 4; i += 1) await followStream(url, { prompt: prompt(900 + i, 20), newTokens: 1 });
  for (const [i, adapter] of names.entries()) {
    const from = performance.now();
    readFileSync(join(folders[i]!, 'adapter_model.safetensors'));
    read.push(performance.now() - from);
    for (const [at, times] of [cold, warm].entries()) {
      const text = prompt(1000 + i * 2 + at, 20);
      const { startedAt, tokensAt } = await followStream(url, { prompt: text, newTokens: 1, adapter });
      times.push(tokensAt[0]! - startedAt);
    }
  }
  return { cold, warm, read };
}

/** A stretch of time, on the clock of `performance.now()`. */
interface Span {
  readonly from: number;
  readonly to: number;
}

/**
 * Gaps between tokens of running streams: as long as nothing loads, and while adapters are loaded. The two take turns, so
 * that streams that grow longer, and a machine that changes its pace, tell on both alike. A gap counts as disturbed when
 * any part of it lies in a load, as quiet when all of it lies outside.
 */
async function whileLoading(url: string, folders: readonly string[], streams: number) {
  const gaps: Span[] = [];
  const leave = new AbortController();
  // Longer than they are followed, if the context allows: a prompt that is read in between disturbs the others, too.
  const newTokens = Math.min(4000, (await contextOf(url)) - 200);
  const stream = async (number: number) => {
    for (let again = 0; !leave.signal.aborted; again += 1) {
      let last: number | undefined;
      const request = { prompt: prompt(5000 + number + again * streams, 20), newTokens, signal: leave.signal };
      await followStream(url, request, () => {
        const now = performance.now();
        if (last !== undefined) gaps.push({ from: last, to: now });
        last = now;
      }).catch((error: unknown) => {
        if (!leave.signal.aborted) throw error;
      });
    }
  };
  const running = Promise.all(Array.from({ length: streams }, (_, i) => stream(i)));
  const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
  const loadMs: number[] = [];
  const [quietSpans, loadSpans]: [Span[], Span[]] = [[], []];
  const work = async () => {
    await wait(2000);
    for (let at = 0; at < folders.length; at += AT_ONCE) {
      const from = performance.now();
      await wait(QUIET_MS);
      const between = performance.now();
      await Promise.all(
        folders.slice(at, at + AT_ONCE).map(async (folder, i) => {
          const start = performance.now();
          await register(url, `beside${at + i}`, folder, true);
          loadMs.push(performance.now() - start);
        }),
      );
      quietSpans.push({ from, to: between });
      loadSpans.push({ from: between, to: performance.now() });
      // The step in which a load ended is the load's.
      await wait(200);
    }
    leave.abort();
  };
  await Promise.all([work(), running]);
  const overlaps = (span: Span, { from, to }: Span) => span.to > from && span.from < to;
  const lies = (span: Span, { from, to }: Span) => span.from >= from && span.to <= to;
  const within = (spans: readonly Span[], is: typeof lies) =>
    gaps.filter((gap) => spans.some((span) => is(gap, span))).map(({ from, to }) => to - from);
  return { quiet: within(quietSpans, lies), disturbed: within(loadSpans, overlaps), loadMs };
}
