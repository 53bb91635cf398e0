/**
 * `npm run bench -- interleave [--model DIR] [--streams 8] [--prompts 4] [--prompt-tokens 1500] [--prefill-chunk N] [--save]`
 *
 * Running streams while long prompts are read: the time between their tokens before, during and after.
 */

import { contextOf } from './context.js';
import { passedOn, readFlags, TEXT } from './flags.js';
import { percentile, prompt } from './load.js';
import { tell } from './progress.js';
import { machineName, publish } from './result.js';
import { settled, startServer } from './server-process.js';
import { followStream } from './stream.js';

export async function run(args: string[]): Promise<void> {
  const values = readFlags(args, {
    model: TEXT,
    streams: 8,
    prompts: 4,
    'prompt-tokens': 1500,
    'prefill-chunk': TEXT,
    'stream-tokens': 500,
    'quiet-tokens': 120,
    save: false,
  });
  const { streams, prompts } = values;
  const quietTokens = values['quiet-tokens'];
  const flags = passedOn(values, 'model', 'prefill-chunk');
  const server = await startServer([...flags, '--kv-bytes', '2GiB']);
  try {
    const context = await contextOf(server.url);
    const words = await wordsFor(server.url, Math.min(values['prompt-tokens'], context - 100));
    const streamTokens = Math.min(values['stream-tokens'], context - 300);
    await settled();
    tell(`${streams} streams begin`);
    // Every stream is past its prompt when the quiet time begins, and outlasts the reading of the long prompts.
    let settling = streams;
    let quietFrom = 0;
    let quietReady = () => {};
    const ready = new Promise<void>((resolve) => {
      quietReady = resolve;
    });
    const running = Array.from({ length: streams }, (_, i) =>
      followStream(server.url, { prompt: prompt(i, 60), newTokens: streamTokens }, (count) => {
        if (count === 20 && --settling === 0) quietFrom = performance.now();
        if (i === 0 && count === 20 + quietTokens) quietReady();
      }),
    );
    await ready;
    tell(`${prompts} long prompts come`);
    const disturbedFrom = performance.now();
    const long = await Promise.all(
      Array.from({ length: prompts }, (_, i) =>
        followStream(server.url, { prompt: prompt(1000 + i, words), newTokens: 1 }),
      ),
    );
    const disturbedUntil = performance.now();
    tell('they are read; the streams go on to their end');
    const times = await Promise.all(running);
    const gaps = (from: number, until: number) =>
      times.flatMap(({ tokensAt }) =>
        tokensAt.slice(1).flatMap((at, i) => (tokensAt[i]! >= from && at <= until ? [at - tokensAt[i]!] : [])),
      );
    const quiet = gaps(quietFrom, disturbedFrom);
    const disturbed = gaps(disturbedFrom, disturbedUntil);
    const after = gaps(disturbedUntil, Number.POSITIVE_INFINITY);
    const row = (label: string, values: number[]) => [
      label,
      values.length,
      percentile(values, 0.5).toFixed(1),
      percentile(values, 0.99).toFixed(1),
      (percentile(values, 0.99) / percentile(quiet, 0.99)).toFixed(2),
    ];
    const first = long.map(({ startedAt, tokensAt }) => tokensAt[0]! - startedAt);
    publish(
      {
        name: 'interleave',
        title: `Streams while ${prompts} prompts of ${long[0]!.promptTokens} tokens are read`,
        method: `${streams} streams over HTTP decode; then ${prompts} long prompts arrive at once. Milliseconds between the tokens of a stream.`,
        command: `npm run bench -- interleave --model DIR --streams ${streams} --prompts ${prompts} --prompt-tokens ${values['prompt-tokens']}`,
        machine: machineName(),
        columns: ['time', 'gaps', 'p50 ms', 'p99 ms', 'p99 / quiet p99'],
        rows: [row('before', quiet), row('while prompts are read', disturbed), row('after', after)],
        notes: [
          `the long prompts had their first token after ${first.map((ms) => (ms / 1000).toFixed(1)).join(', ')} s`,
        ],
      },
      values.save,
    );
  } finally {
    await server.stop();
  }
}

/** Words of a prompt of about so many tokens, measured with a short one. */
export async function wordsFor(url: string, tokens: number): Promise<number> {
  const { promptTokens } = await followStream(url, { prompt: prompt(7, 100), newTokens: 1 });
  return Math.round((tokens / promptTokens) * 100);
}
