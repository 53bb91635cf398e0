/** How many prompt tokens are read between two decode steps, and in which steps. */
import type { Costs } from './step-costs.js';

/** Reading may take this many decode steps' time: with the decode step itself, streams slow down to 2.5 times. */
const DECODE_STEPS = 1.5;
/** Below this many tokens a chunk mostly reads weights. */
const FEWEST_TOKENS = 16;
/** A further chunk before the next decode step takes at least this many, for the same reason. */
const FEWEST_FURTHER = 64;
/** Chunks are multiples of this, so that few shapes occur. */
const MULTIPLE = 8;

/** What the size depends on. */
export interface ChunkInput {
  readonly costs: Costs;
  /** Rows that decode and must wait for the chunk. */
  readonly running: number;
  /** Rows without a first token that could have one soon: those being prefilled, and those that would find a place. */
  readonly hungry: number;
  /** Tokens read since the last decode step. */
  readonly read: number;
  /** Most tokens. */
  readonly limit: number;
}

/**
 * Tokens of the next chunk; 0 = decode first. While nothing decodes it is the limit. Else the time of all chunks between two
 * decode steps is bounded by that of decode steps: by 1.5 of them, times as many rows as wait for each row that runs. The
 * delay is one row's loss and another's gain, and a row that starts earlier makes fuller batches of all steps to come. The
 * measured cost per token falls with the size of the chunk, so following it ends at the chunk that fits.
 */
export function chunkTokens({ costs, running, hungry, read, limit }: ChunkInput): number {
  const { decodeMs, prefillMsPerToken } = costs;
  if (running === 0) return limit;
  if (decodeMs === undefined || prefillMsPerToken === undefined) return read === 0 ? limit : 0;
  const budgetMs = DECODE_STEPS * decodeMs * Math.max(1, hungry / running);
  const tokens = Math.floor(budgetMs / prefillMsPerToken / MULTIPLE) * MULTIPLE - read;
  if (read > 0) return tokens < FEWEST_FURTHER ? 0 : Math.min(limit, tokens);
  return Math.min(limit, Math.max(FEWEST_TOKENS, tokens));
}
