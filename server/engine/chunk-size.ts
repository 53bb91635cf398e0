/** How many prompt tokens a step takes while other rows decode. */
import type { Costs } from './step-costs.js';

/** A chunk may take this many decode steps' time: with the decode step itself, streams slow down to 2.5 times. */
const DECODE_STEPS = 1.5;
/** Below this many tokens a chunk mostly reads weights. */
const FEWEST_TOKENS = 16;
/** Chunks are multiples of this, so that few shapes occur. */
const MULTIPLE = 8;

/** What the size depends on. */
export interface ChunkInput {
  readonly costs: Costs;
  /** Rows that decode and must wait for the chunk. */
  readonly running: number;
  /** Rows without a first token that could have one soon: those being prefilled, and those that would find a place. */
  readonly hungry: number;
  /** Most tokens. */
  readonly limit: number;
}

/**
 * Tokens of the next chunk. While nothing decodes it is the limit. Else its time is bounded by that of decode steps: by
 * 1.5 of them, times as many rows as wait for each row that runs, since a chunk's delay is one row's loss and another's
 * gain. The measured cost per token falls with the size of the chunk, so following it ends at the chunk that fits.
 */
export function chunkTokens({ costs, running, hungry, limit }: ChunkInput): number {
  const { decodeMs, prefillMsPerToken } = costs;
  if (running === 0 || decodeMs === undefined || prefillMsPerToken === undefined) return limit;
  const budgetMs = DECODE_STEPS * decodeMs * Math.max(1, hungry / running);
  const tokens = Math.floor(budgetMs / prefillMsPerToken / MULTIPLE) * MULTIPLE;
  return Math.min(limit, Math.max(FEWEST_TOKENS, tokens));
}
