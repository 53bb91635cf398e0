/** Arrival processes with seeds: when rows come, and which adapter they name. */

/** Numbers in [0, 1) that a seed determines (mulberry32). */
export function randomNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** How arrivals spread: evenly at random, in clumps of any size, or in bursts of 8 at once. */
export const PROCESSES = ['poisson', 'gamma', 'bursts'] as const;
export type Process = (typeof PROCESSES)[number];

/** Times in milliseconds, ascending, of arrivals at `perSecond` on average until `untilMs`. */
export function arrivalTimes(process: Process, perSecond: number, untilMs: number, random: () => number): number[] {
  const times: number[] = [];
  const burst = process === 'bursts' ? 8 : 1;
  const meanMs = (1000 / perSecond) * burst;
  for (let at = gapMs(process, meanMs, random); at < untilMs; at += gapMs(process, meanMs, random)) {
    for (let i = 0; i < burst; i += 1) times.push(at);
  }
  return times;
}

/** Exponential gaps, or those of a Gamma process with shape 1/4 (a coefficient of variation of 2). */
function gapMs(process: Process, meanMs: number, random: () => number): number {
  return process === 'gamma' ? gamma(0.25, random) * 4 * meanMs : -Math.log(1 - random()) * meanMs;
}

/** A Gamma variate of mean `shape`, for shapes below 1 (Ahrens and Dieter's GS). */
function gamma(shape: number, random: () => number): number {
  const border = (Math.E + shape) / Math.E;
  for (;;) {
    const point = border * random();
    if (point <= 1) {
      const x = point ** (1 / shape);
      if (random() <= Math.exp(-x)) return x;
    } else {
      const x = -Math.log((border - point) / shape);
      if (random() <= x ** (shape - 1)) return x;
    }
  }
}

/** Picks among `count` with weights 1, 1/2^s, 1/3^s, ... */
export function zipf(count: number, exponent: number): (random: () => number) => number {
  const sums: number[] = [];
  for (let rank = 1; rank <= count; rank += 1) sums.push((sums.at(-1) ?? 0) + rank ** -exponent);
  return (random) => {
    const point = random() * sums.at(-1)!;
    return sums.findIndex((sum) => point < sum);
  };
}
