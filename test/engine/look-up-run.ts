/** Runs rows by themselves with look-up and without, in `fp32`: nothing of what they get may differ but the steps. */
import assert from 'node:assert/strict';
import { flattenReplaced } from '../../server/adapters/flatten.js';
import { readAdapterFolder } from '../../server/adapters/read-adapter.js';
import type { BoundAdapter } from '../../server/adapters/types.js';
import { SessionFactory } from '../../server/engine/decoder-session.js';
import { EmbeddingTable } from '../../server/engine/embedding-table.js';
import { EngineLoop, type LoopLimits } from '../../server/engine/engine-loop.js';
import type { SamplingOptions } from '../../server/engine/messages.js';
import { StepRunner } from '../../server/engine/step-runner.js';
import { type ModelFolder, openModelFolder } from '../../server/model/model-folder.js';
import { adapterBaseOf } from '../../server/model/module-table.js';
import { GREEDY, LIMITS, type Outcome, run, type TestRow } from './loop-run.js';

/** Most guesses of a step in these tests. */
export const MOST = 6;

/** How rows choose among the few tokens that {@link few} leaves them. */
export const CHOICES: Readonly<Record<'greedy' | 'seeded', SamplingOptions>> = {
  greedy: { ...GREEDY, presencePenalty: 0.1 },
  seeded: { ...GREEDY, presencePenalty: 0.1, temperature: 3, seed: 7 },
};

/** A row can only get one of these tokens: its text repeats itself, but not so that every guess comes true. */
export function few(sampling: SamplingOptions, ids: readonly number[]): SamplingOptions {
  return { ...sampling, logitBias: new Map(ids.map((id) => [id, 200])) };
}

/** Two loops over one runner: one guesses. */
export interface LoopPair {
  readonly folder: ModelFolder;
  readonly plain: EngineLoop;
  readonly guessing: EngineLoop;
  /** Loads an adapter's folder into both. */
  load(path: string): Promise<BoundAdapter>;
}

/** Opens a model's folder for both. The caller closes `folder`. */
export async function openPair(dir: string, more: Partial<LoopLimits> = {}): Promise<LoopPair> {
  const folder = await openModelFolder(dir);
  const factory = await SessionFactory.create(folder, 'fp32');
  const runner = new StepRunner(folder.spec, await EmbeddingTable.read(folder), []);
  for (const variant of ['base', 'lora', 'full'] as const) runner.addSession(await factory.open(variant, 1));
  const base = adapterBaseOf(folder);
  const plain = new EngineLoop(runner, { ...LIMITS, ...more });
  const guessing = new EngineLoop(runner, { ...LIMITS, ...more, lookupTokens: MOST });
  const load = async (path: string): Promise<BoundAdapter> => {
    const adapter = await flattenReplaced(await readAdapterFolder(path, base), base);
    for (const engine of [plain, guessing]) await engine.load(adapter);
    return adapter;
  };
  return { folder, plain, guessing, load };
}

/** Asserts that the row gets the same with guesses as without. @returns what it got, and how its guesses fared */
export async function sameWithGuesses(
  { plain, guessing }: Pick<LoopPair, 'plain' | 'guessing'>,
  asked: TestRow,
): Promise<Outcome & { readonly accepted: number; readonly rejected: number }> {
  const row = { ...asked, sampling: { ...asked.sampling, logprobs: 1 } };
  const [expected] = await run(plain, [row]);
  const before = guessing.stats();
  const [got] = await run(guessing, [row]);
  const after = guessing.stats();
  assert.equal(expected!.end!.cause, got!.end!.cause, got!.end!.message);
  assert.deepEqual(got!.tokens, expected!.tokens);
  for (const [i, logprob] of got!.logprobs.entries())
    assert.ok(Math.abs(logprob! - expected!.logprobs[i]!) < 1e-4, `token ${i}: ${logprob}`);
  const accepted = after.guessesAccepted - before.guessesAccepted;
  assert.equal(after.decodeTokens - before.decodeTokens, got!.tokens.length - 1);
  assert.equal(after.decodeSteps - before.decodeSteps, got!.tokens.length - 1 - accepted);
  return { ...got!, accepted, rejected: after.guessesRejected - before.guessesRejected };
}
