/**
 * `npm run bench -- memory [--model DIR] [--adapters DIR] [--active 16] [--tokens 200] [--save]`
 *
 * Resident memory of a served model with many adapters at work, against what its weights, adapters and caches take.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openModelFolder } from '../server/model/model-folder.js';
import { DEMO_ADAPTERS, DEMO_MODEL } from './demo.js';
import { passedOn, readFlags, TEXT } from './flags.js';
import { prompt } from './load.js';
import { makeAdapters } from './many-adapters.js';
import { residentMiB } from './process-cost.js';
import { tell } from './progress.js';
import { machineName, publish } from './result.js';
import { startServer } from './server-process.js';
import { followStream } from './stream.js';

export async function run(args: string[]): Promise<void> {
  const values = readFlags(args, {
    model: TEXT,
    adapters: TEXT,
    dtype: 'int8',
    active: 16,
    tokens: 200,
    save: false,
  });
  const { active } = values;
  const place = mkdtempSync(join(tmpdir(), 'loramux-memory-'));
  // The demo has fewer adapters than are to be active.
  if (values.adapters === undefined) makeAdapters(DEMO_ADAPTERS, place, active);
  const flags = passedOn({ ...values, adapters: values.adapters ?? place }, 'model', 'adapters', 'dtype');
  const server = await startServer(flags);
  try {
    const idle = residentMiB(server.pid);
    const listed = (await (await fetch(`${server.url}/adapters?limit=100`)).json()) as { adapters: { name: string }[] };
    const names = listed.adapters.map(({ name }) => name).slice(0, active);
    if (names.length < active) throw new Error(`the folder has ${names.length} adapters, ${active} are asked for`);
    let peak = idle;
    let gauges: Record<string, number> = {};
    const watch = setInterval(async () => {
      peak = Math.max(peak, residentMiB(server.pid));
      const now = parseGauges(await (await fetch(`${server.url}/metrics`)).text());
      if ((now.kv ?? 0) >= (gauges.kv ?? 0)) gauges = now;
    }, 250);
    for (let round = 0; round < 2; round += 1) {
      tell(`round ${round + 1} of 2: ${names.length} streams`);
      await Promise.all(
        names.map((adapter, i) =>
          followStream(server.url, { prompt: prompt(round * 100 + i, 80), newTokens: values.tokens, adapter }),
        ),
      );
    }
    clearInterval(watch);
    const folder = await openModelFolder(values.model ?? DEMO_MODEL);
    const { parameters } = folder;
    await folder.close();
    const weights = (parameters * (values.dtype === 'int8' ? 1 : 4)) / 2 ** 20;
    const { adapters = 0, kv = 0, prefix = 0 } = gauges;
    const parts = weights + adapters + kv + prefix;
    publish(
      {
        name: 'memory',
        title: `Resident memory with ${active} active adapters`,
        method: `A server process; ${active} streams of ${values.tokens} tokens, each with an adapter of its own, twice; MiB, largest of samples every 250 ms.`,
        command: `npm run bench -- memory --model DIR --adapters DIR --active ${active} --tokens ${values.tokens}`,
        machine: machineName(),
        columns: ['part', 'MiB'],
        rows: [
          ['weights at one byte each (four at fp32)', Math.round(weights)],
          [`adapters (${listed.adapters.length} loaded)`, Math.round(adapters)],
          ['keys and values of running rows', Math.round(kv)],
          ['prefix cache', Math.round(prefix)],
          ['sum of these', Math.round(parts)],
          ['resident before the first request', Math.round(idle)],
          ['resident at most', Math.round(peak)],
          ['at most / sum', (peak / parts).toFixed(2)],
        ],
        notes: ['adapters at work are held twice: as they were loaded, and side by side for the rows of the batch'],
      },
      values.save,
    );
  } finally {
    await server.stop();
    rmSync(place, { recursive: true });
  }
}

/** MiB by part. */
function parseGauges(text: string): Record<string, number> {
  const value = (name: string) =>
    Number(new RegExp(`^loramux_${name}_bytes\\{[^}]*\\} (\\S+)`, 'm').exec(text)?.[1] ?? 0) / 2 ** 20;
  return { adapters: value('adapter'), kv: value('kv'), prefix: value('prefix') };
}
