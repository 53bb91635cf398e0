/**
 * `npm run bench -- simulate [--seeds 5] [--seconds 600] [--load 0.6] [--adapters 8] [--save]`
 *
 * The scheduler's policy on simulated time: what a busy adapter costs the others, and whether anybody starves.
 */
import type { SchedulerLimits } from '../server/engine/scheduler.js';
import { arrivalTimes, PROCESSES, type Process, randomNumbers, zipf } from './arrivals.js';
import { readFlags } from './flags.js';
import { percentile } from './load.js';
import { tell } from './progress.js';
import { machineName, publish } from './result.js';
import { type Arrival, type CostModel, type Outcome, simulate } from './simulator.js';

/** A 135M model at int8 on two cores, from measured steps: weights once, a row's linears, cached positions. */
export const COSTS: CostModel = {
  prefill: (tokens, past) => 6 + tokens * (0.6 + past * 0.0003),
  decode: (lengths) => 6 + lengths.length * (2 + Math.max(...lengths) * 0.004),
};

export const LIMITS: SchedulerLimits = { maxBatch: 16, prefillChunk: 256, maxPositions: 11_000, stepPositions: 2_000 };

const PROMPT_TOKENS = 115;
const NEW_TOKENS = 64;
/** Rows per second that keep the engine busy with full batches, nearly. */
const CAPACITY = 3.2;

export async function run(args: string[]): Promise<void> {
  const values = readFlags(args, {
    seeds: 5,
    seconds: 600,
    load: 0.5,
    adapters: 8,
    save: false,
  });
  const { adapters } = values;
  const perSecond = (CAPACITY * values.load) / adapters;
  const untilMs = values.seconds * 1000;
  const seeds = Array.from({ length: values.seeds }, (_, i) => i + 1);
  const rows: (string | number)[][] = [];
  const measure = (label: string, arrivals: (seed: number) => Arrival[], busy: string) => {
    tell(label);
    const all = seeds.flatMap((seed) => [...simulate(arrivals(seed), LIMITS, COSTS).outcomes]);
    const others = all.filter(({ key }) => key !== busy);
    rows.push(
      summary(
        label,
        others,
        all.filter(({ key }) => key === busy),
        all,
      ),
    );
    return percentile(
      others.map(({ firstTokenMs }) => firstTokenMs),
      0.5,
    );
  };
  for (const process of PROCESSES) {
    const even = (times: number) => (seed: number) => evenTraffic(process, adapters, perSecond, untilMs, times, seed);
    const calm = measure(`${process}, equal traffic`, even(1), '0');
    const flooded = measure(`${process}, one adapter sends 10 times as much`, even(10), '0');
    // Not -0.
    rows.at(-1)!.push(`${Math.round((flooded / calm - 1) * 100) || 0} %`);
    rows.at(-2)!.push('');
  }
  measure('poisson, Zipf 1.0 over 100 adapters', (seed) => zipfTraffic(100, CAPACITY * 0.8, untilMs, seed), '0');
  rows.at(-1)!.push('');
  publish(
    {
      name: 'simulate',
      title: 'Fairness of the scheduler, simulated',
      method:
        `The scheduler's policy on simulated time, ${seeds.length} seeds of ${values.seconds} s each; prompts of ${PROMPT_TOKENS} tokens, ${NEW_TOKENS} new ones, ` +
        'step costs as measured with a 135M model on two cores, batch of 16. The busy adapter is one of ' +
        `${adapters}; with ten times its share it asks for ${((values.load * (adapters + 9)) / adapters).toFixed(1)} times what the machine can do.`,
      command: `npm run bench -- simulate --seeds ${seeds.length} --seconds ${values.seconds} --load ${values.load} --adapters ${adapters}`,
      machine: machineName(),
      columns: [
        'arrivals',
        'rows',
        'others: first token p50 ms',
        'p99 ms',
        'longest ms',
        'busy one: first token p50 ms',
        'preempted',
        'others slowed by',
      ],
      rows,
    },
    values.save,
  );
}

function summary(label: string, others: Outcome[], busy: Outcome[], all: Outcome[]): (string | number)[] {
  const first = others.map(({ firstTokenMs }) => firstTokenMs);
  const round = (value: number) => Math.round(value);
  return [
    label,
    all.length,
    round(percentile(first, 0.5)),
    round(percentile(first, 0.99)),
    round(Math.max(...first)),
    round(
      percentile(
        busy.map(({ firstTokenMs }) => firstTokenMs),
        0.5,
      ),
    ),
    all.reduce((sum, { preemptions }) => sum + preemptions, 0),
  ];
}

/** Every adapter sends at the same mean rate, the first one `times` as much. */
export function evenTraffic(
  process: Process,
  adapters: number,
  perSecond: number,
  untilMs: number,
  times: number,
  seed: number,
): Arrival[] {
  return Array.from({ length: adapters }, (_, adapter) => {
    // A stream of random numbers each: the others' arrivals are the same whatever the first one does.
    const random = randomNumbers(seed * 1000 + adapter);
    const rate = adapter === 0 ? perSecond * times : perSecond;
    return arrivalTimes(process, rate, untilMs, random).map((atMs) => row(atMs, String(adapter), random));
  }).flat();
}

/** One Poisson stream whose rows pick their adapter by Zipf's law with exponent 1. */
export function zipfTraffic(adapters: number, perSecond: number, untilMs: number, seed: number): Arrival[] {
  const random = randomNumbers(seed);
  const pick = zipf(adapters, 1);
  return arrivalTimes('poisson', perSecond, untilMs, random).map((atMs) => row(atMs, String(pick(random)), random));
}

function row(atMs: number, key: string, random: () => number): Arrival {
  const around = (mean: number) => Math.max(1, Math.round(mean * (0.5 + random())));
  return { atMs, key, promptTokens: around(PROMPT_TOKENS), newTokens: around(NEW_TOKENS) };
}
