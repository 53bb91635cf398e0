/**
 * `npm run bench -- retention [--model DIR] [--rows 8,16] [--rank 16] [--tokens 96] [--rounds 3] [--save]`
 *
 * What adapters cost in a decode step, against the time that reading their bytes takes at this machine's measured
 * bandwidth, and the share of base-only throughput that is left. Adapters are made here, with random values, on all
 * linears of the layers: speed does not depend on the values.
 */
import type { BoundAdapter } from '../server/adapters/types.js';
import type { Dtype } from '../server/engine/decoder-session.js';
import { allLinears, type DecoderSpec } from '../server/model/spec.js';
import { DEMO_MODEL } from './demo.js';
import { readFlags } from './flags.js';
import { type LocalResult, openLocalEngine, story } from './local-engine.js';
import { memoryBandwidth } from './memory-bandwidth.js';
import { tell, tellRound } from './progress.js';
import { machineName, publish } from './result.js';

/** Ranks of the mixed load; their mean is what the load of equal ranks has. */
const MIXED_RANKS = [8, 16, 64, 32, 8, 16, 64, 32];

interface Load {
  readonly label: string;
  readonly rows: number;
  /** Adapter of each row. */
  readonly adapters: readonly (BoundAdapter | undefined)[];
}

export async function run(args: string[]): Promise<void> {
  const values = readFlags(args, {
    model: DEMO_MODEL,
    dtype: 'int8',
    threads: 2,
    rows: [8, 16],
    rank: 16,
    words: 100,
    tokens: 96,
    rounds: 3,
    save: false,
  });
  const { threads } = values;
  tell('measuring how fast memory is read');
  const bandwidth = await memoryBandwidth(threads);
  const engine = await openLocalEngine({
    model: values.model,
    dtype: values.dtype as Dtype,
    threads,
    adapters: { folder: '', names: [] },
  });
  const make = (name: string, rank: number) => randomAdapter(engine.spec, name, rank);
  const loads: Load[] = [];
  for (const rows of values.rows) {
    const distinct = Array.from({ length: rows }, (_, i) => make(`equal-${i}`, values.rank));
    const add = (label: string, pick: (row: number) => BoundAdapter | undefined) =>
      loads.push({ label, rows, adapters: Array.from({ length: rows }, (_, row) => pick(row)) });
    add('base', () => undefined);
    add('one shared', () => distinct[0]);
    add('4 distinct', (row) => distinct[row % 4]);
    add('each adapter half as often as the one before', (row) => distinct[trailingZeros(row + 1)]);
    add(`${rows} distinct`, (row) => distinct[row]);
    const mixed = Array.from({ length: rows }, (_, i) => make(`mixed-${i}`, MIXED_RANKS[i % MIXED_RANKS.length]!));
    const mean = MIXED_RANKS.reduce((sum, rank) => sum + rank, 0) / MIXED_RANKS.length;
    const equal = Array.from({ length: rows }, (_, i) => make(`mean-${i}`, mean));
    add(`equal ranks of ${mean}`, (row) => equal[row]);
    add('ranks 8 to 64', (row) => mixed[row]);
    const narrow = Array.from({ length: rows - 1 }, (_, i) => make(`narrow-${i}`, 8));
    const wide = make('wide', 128);
    add('ranks of 8, one of 128', (row) => narrow[row] ?? wide);
    add(`base but for 2 of rank ${values.rank}`, (row) => (row < 2 ? distinct[row] : undefined));
  }
  for (const adapter of new Set(loads.flatMap(({ adapters }) => adapters)))
    if (adapter !== undefined) await engine.load(adapter);
  const { words } = values;
  const best = new Map<Load, LocalResult>();
  for (let round = -1; round < values.rounds; round += 1) {
    for (const load of loads) {
      const rows = load.adapters.map((adapter, i) => ({
        promptIds: engine.encode(story(i, words)),
        digest: adapter?.digest,
      }));
      const result = await engine.generate(rows, round < 0 ? 3 : values.tokens);
      const known = best.get(load);
      if (round >= 0 && Number.isNaN(result.decodeMin))
        throw new Error(`no step decoded all ${load.rows} rows (${load.label}): more --tokens are needed`);
      tellRound(round, values.rounds, `${load.rows} rows, ${load.label}`);
      if (round >= 0 && (known === undefined || result.decodeMin < known.decodeMin)) best.set(load, result);
    }
  }
  await engine.close();
  const rows = loads.map((load) => {
    const step = best.get(load)!.decodeMin;
    const base = best.get(loads.find((other) => other.rows === load.rows)!)!.decodeMin;
    const bytes = [...new Set(load.adapters)].reduce((sum, adapter) => sum + (adapter?.bytes ?? 0), 0);
    const reading = (bytes / bandwidth) * 1000;
    return [
      `${load.rows} rows, ${load.label}`,
      step.toFixed(2),
      (step - base).toFixed(2),
      (bytes / 1e6).toFixed(1),
      reading.toFixed(2),
      bytes === 0 ? '' : ((step - base) / reading).toFixed(2),
      ((base / step) * 100).toFixed(1),
    ];
  });
  publish(
    {
      name: 'retention',
      title: 'What adapters cost in a decode step',
      method:
        `Fastest decode step of ${values.tokens} tokens after prompts of ${words} words, best of ${values.rounds} alternating rounds; ` +
        `${threads} threads; memory read at ${(bandwidth / 1e9).toFixed(1)} GB/s (measured in the same run).`,
      command: 'npm run bench -- retention --model DIR',
      machine: machineName(),
      columns: ['load', 'step, ms', 'extra, ms', 'adapters, MB', 'reading them, ms', 'extra / reading', 'retained, %'],
      rows,
    },
    values.save,
  );
}

/** Of a number above 0: half of all numbers have none, a quarter has one, and so on. */
function trailingZeros(value: number): number {
  return 31 - Math.clz32(value & -value);
}

/** An adapter of one rank on every linear of the layers. */
function randomAdapter(spec: DecoderSpec, name: string, rank: number): BoundAdapter {
  let state = name.length + rank;
  const values = (length: number) =>
    Float32Array.from({ length }, () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return (state / 2 ** 32 - 0.5) * 0.02;
    });
  const linears = allLinears(spec)
    .filter(({ module }) => module !== spec.head.linear.module)
    .map(({ module, inFeatures, outFeatures }) => ({
      module,
      rank,
      scaling: 1,
      a: values(rank * inFeatures),
      b: values(rank * outFeatures),
    }));
  const bytes = linears.reduce((sum, { a, b }) => sum + a.byteLength + b.byteLength, 0);
  return { digest: name, bytes, linears, norms: new Map(), features: ['lora'], warnings: [] };
}
