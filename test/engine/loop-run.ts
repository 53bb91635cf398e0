/** Runs rows through an engine loop in tests. */
import assert from 'node:assert/strict';
import type { EngineLoop, LoopLimits } from '../../server/engine/engine-loop.js';
import type { EndEvent, SamplingOptions } from '../../server/engine/messages.js';
import type { GoldenModel } from './golden-model.js';

export { GREEDY } from '../../bench/greedy.js';

export const LIMITS: LoopLimits = { maxBatch: 8, prefillChunk: 16, maxPositions: 1_000_000 };

/** A row of a test batch. */
export interface TestRow {
  readonly promptIds: readonly number[];
  readonly selection: readonly { digest: string; weight: number }[];
  readonly sampling: SamplingOptions;
  readonly maxNewTokens: number;
  /** Step before which the row arrives, and before which it is cancelled. */
  readonly arrives: number;
  readonly cancelled?: number | undefined;
  readonly priority?: number | undefined;
}

/** What a row got. */
export interface Outcome {
  readonly tokens: number[];
  readonly logprobs: (number | undefined)[];
  end?: EndEvent;
}

/** Runs rows to their end on a loop that has no others; `afterStep` looks at it after every step. */
export async function run(
  engine: EngineLoop,
  rows: readonly TestRow[],
  afterStep: () => void = () => {},
): Promise<Outcome[]> {
  const outcomes: Outcome[] = rows.map(() => ({ tokens: [], logprobs: [] }));
  // What a failed run left behind would spoil the next one.
  if (engine.busy) engine.cancel(Array.from({ length: 100 }, (_, id) => id));
  while (engine.busy) await engine.step();
  for (let step = 0; outcomes.some(({ end }) => end === undefined); step += 1) {
    for (const [id, row] of rows.entries()) {
      if (row.arrives === step) {
        const refused = engine.submit({ ...row, id, endIds: [], submittedAt: 0 });
        if (refused !== undefined) outcomes[id]!.end = refused;
      }
      if (row.cancelled === step) engine.cancel([id]);
    }
    const { tokens, ends } = await engine.step();
    afterStep();
    for (const { id, token, logprob } of tokens) {
      outcomes[id]!.tokens.push(token);
      outcomes[id]!.logprobs.push(logprob);
    }
    for (const end of ends) {
      assert.equal(outcomes[end.id]!.end, undefined, 'a row ends once');
      outcomes[end.id]!.end = end;
    }
    assert.ok(step < 5000, 'the engine makes progress');
  }
  assert.equal(engine.busy, false);
  return outcomes;
}

export async function loadAll(model: GoldenModel, engine: EngineLoop): Promise<Map<string, string>> {
  const digests = new Map<string, string>();
  for (const [name, entry] of Object.entries(model.golden.adapters)) {
    if (entry.policy !== 'load') continue;
    const adapter = await model.adapter(entry.path);
    await engine.load(adapter);
    digests.set(name, adapter.digest);
  }
  return digests;
}

/**
 * Number of tokens that must be equal. Float sums differ in their last bits between a row alone and one in a batch, so a
 * drawn number that falls on the border between two tokens, which lie side by side in the order of ids, may fall to
 * either; what follows another token is another text.
 */
export function sameUpTo(tokens: readonly number[], alone: readonly number[], temperature: number): number {
  const at = tokens.findIndex((token, i) => token !== alone[i]);
  return at >= 0 && temperature > 0 && Math.abs(tokens[at]! - alone[at]!) === 1 ? at : tokens.length;
}
