/** The main thread's eye on an engine thread: it notices a step that does not return, and that it has returned after all. */
import { AppError } from '../errors.js';
import type { MarksSeen, StepMarks } from './step-marks.js';

/** Longest time between two looks. [ms] */
const LOOK_MS = 1000;
/** When whoever was refused may ask again. [ms] */
const RETRY_MS = 5000;

/** What is watched, and for whom. */
export interface StallWatchOptions {
  readonly marks: StepMarks;
  /** How long one native call, or what a step does between two, may last; 0 = it is not watched. */
  readonly timeoutMs: number;
  /** True while anything waits for the thread. */
  pending(): boolean;
  /** Milliseconds that only go up; absent = those of the process. */
  readonly now?: (() => number) | undefined;
  /** Called whenever {@link StallWatch.stalled} has changed. */
  changed(): void;
}

/** Looks while anything is pending. An interval between two looks with no change in it was one call, however late the second look comes. */
export class StallWatch {
  /** What does not return, and since when; absent = the thread moves, as far as it was seen. */
  stalled: string | undefined;
  readonly #options: StallWatchOptions;
  #timer: NodeJS.Timeout | undefined;
  #seen: MarksSeen | undefined;
  #since = 0;

  constructor(options: StallWatchOptions) {
    this.#options = options;
  }

  /** Work was given to the thread: it is watched until nothing is pending any more. */
  expect(): void {
    const { timeoutMs } = this.#options;
    if (timeoutMs === 0 || this.#timer !== undefined) return;
    this.#seen = undefined;
    this.look();
    this.#timer = setInterval(() => this.look(), Math.min(timeoutMs / 4, LOOK_MS)).unref();
  }

  /** Looks now. */
  look(): void {
    const { marks, timeoutMs, changed, now: clock = performance.now.bind(performance) } = this.#options;
    const seen = marks.look();
    const now = clock();
    if (seen.changes !== this.#seen?.changes || seen.running === 0 || seen.opening > 0) {
      this.#seen = seen;
      this.#since = now;
      if (this.stalled !== undefined) {
        this.stalled = undefined;
        changed();
      }
    } else if (this.stalled === undefined && now - this.#since >= timeoutMs && this.#options.pending()) {
      this.stalled = `a step has not returned for ${timeoutMs / 1000} s`;
      changed();
    }
    if (this.stalled === undefined && !this.#options.pending()) this.stop();
  }

  /** Looks no more. */
  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}

/** What requests of an engine that does not move are answered with. */
export function stallError(stalled: string): AppError {
  return new AppError('ENGINE_STALLED', `the engine does not move: ${stalled}; send the request again later`, {
    retryAfterMs: RETRY_MS,
  });
}
