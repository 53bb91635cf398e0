/** How many prompt tokens are read between two decode steps, and in which steps. */
import type { Costs } from './step-costs.js';

/** Reading may take this many decode steps' time: with the decode step itself, streams slow down to 2.5 times. */
const DECODE_STEPS = 1.5;
/** Below this many tokens a chunk mostly reads weights, which on a processor takes as long as about 16 tokens. */
const FEWEST_TOKENS = 16;
/** A further chunk before the next decode step takes at least this many, for the same reason. */
const FEWEST_FURTHER = 64;
/** Chunks are multiples of this, so that few shapes occur. */
const MULTIPLE = 8;

/**
 * A prompt of at most this many tokens delays the rows that run only now and then, so what counts is that they lose little
 * time in all: it is read in larger chunks.
 */
const SHORT_PROMPT = 256;
/** Tokens of a chunk of a short prompt, at least. */
const FEWEST_OF_SHORT = 32;
/** The only chunk of a short prompt may be larger than allowed by this part of it, two chunks by half of it, and so on. */
const LARGER = 0.4;
/** A prompt of at most this many tokens is read at once while at least as many rows wait as run. */
const AT_ONCE = 128;

/** Who waits for the next chunk, and who for what comes after it. */
export interface Pressure {
  /** Rows that decode and must wait for the chunk. */
  readonly running: number;
  /** Rows without a first token that could have one soon: those being prefilled, and those that would find a place. */
  readonly hungry: number;
  /** Most tokens of a chunk. */
  readonly limit: number;
}

/** What the size depends on. */
export interface ChunkInput extends Pressure {
  readonly costs: Costs;
  /** Tokens read since the last decode step. */
  readonly read: number;
}

/** A row whose tokens are to be read. */
export interface ReadRow {
  /** All that it will have read before it decodes, and how many of them are missing. */
  readonly tokens: number;
  readonly tokensLeft: number;
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

/**
 * The chunk that a row takes of `tokens`, as {@link chunkTokens} allows them. What it has left is shared out evenly, so that
 * no scrap remains at its end, which would read the weights for a few tokens.
 * @param tokens > 0
 */
export function chunkOf({ tokens: all, tokensLeft: left }: ReadRow, tokens: number, pressure: Pressure): number {
  const { running, hungry, limit } = pressure;
  if (all <= AT_ONCE && hungry >= running) return Math.min(left, limit);
  const chunks = all <= SHORT_PROMPT ? left / Math.max(FEWEST_OF_SHORT, tokens) - LARGER : left / tokens;
  const even = left / Math.max(1, Math.ceil(chunks));
  return Math.min(limit, left, Math.ceil(even / MULTIPLE) * MULTIPLE);
}
