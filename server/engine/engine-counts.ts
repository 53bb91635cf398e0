/** What an engine has done since it was opened, for its statistics. */
import type { BoundAdapter } from '../adapters/types.js';
import type { EngineStats } from './messages.js';

/** Of an engine that has done nothing. */
export const NO_STATS: EngineStats = {
  runningRows: 0,
  waitingRows: 0,
  prefillSteps: 0,
  decodeSteps: 0,
  prefillTokens: 0,
  decodeTokens: 0,
  cachedTokens: 0,
  preemptions: 0,
  guessesAccepted: 0,
  guessesRejected: 0,
  kvBytes: 0,
  prefixBytes: 0,
  adaptersLoaded: 0,
  adapterBytes: 0,
  runMs: 0,
  overheadMs: 0,
};

/** Counters of a loop, which it raises itself. */
export class EngineCounts {
  prefillSteps = 0;
  decodeSteps = 0;
  prefillTokens = 0;
  decodeTokens = 0;
  cachedTokens = 0;
  preemptions = 0;
  guessesAccepted = 0;
  guessesRejected = 0;
  /** Milliseconds in steps, in onnxruntime and outside of it. */
  stepMs = 0;

  /** A step tried guesses and got `accepted` tokens more for it. */
  guessed(tried: number, accepted: number): void {
    this.guessesAccepted += accepted;
    this.guessesRejected += tried - accepted;
  }

  /**
   * The counters together with what is held now.
   * @param runMs milliseconds inside onnxruntime
   * @param deviceRestarts see EngineStats
   */
  stats(
    held: Pick<EngineStats, 'runningRows' | 'waitingRows' | 'kvBytes' | 'prefixBytes'>,
    adapters: ReadonlyMap<string, BoundAdapter>,
    runMs: number,
    deviceRestarts: number | undefined,
  ): EngineStats {
    const { stepMs, ...counts } = this;
    return {
      ...counts,
      ...held,
      adaptersLoaded: adapters.size,
      adapterBytes: [...adapters.values()].reduce((sum, { bytes }) => sum + bytes, 0),
      runMs,
      overheadMs: stepMs - runMs,
      deviceRestarts,
    };
  }
}
