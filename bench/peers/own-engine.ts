/** Our engine for the same loads as peers that run in a process: no HTTP, no other thread, all rows at once. */
import { availableParallelism } from 'node:os';
import type { Dtype } from '../../server/engine/decoder-session.js';
import { openLocalEngine } from '../local-engine.js';
import type { InProcessLoad } from './python-peer.js';

/** What is run, on which adapters; `loads` name them by index. */
export interface OwnTask {
  readonly model: string;
  readonly dtype: Dtype;
  readonly folder: string;
  readonly names: readonly string[];
  readonly newTokens: number;
  readonly loads: readonly InProcessLoad[];
}

/** Runs each load twice, as the peers do; the better run's tokens per second go to `figures` by label. */
export async function runOwnEngine(task: OwnTask, figures: Map<string, number>): Promise<void> {
  const { model, dtype, folder, names } = task;
  const engine = await openLocalEngine({ model, dtype, threads: availableParallelism(), adapters: { folder, names } });
  try {
    const rowsOf = ({ prompts, adapters }: InProcessLoad) =>
      prompts.map((text, i) => {
        const adapter = adapters[i] ?? undefined;
        return {
          promptIds: engine.encode(text),
          digest: adapter === undefined ? undefined : digestOf(names[adapter]!),
        };
      });
    const digestOf = (name: string) => engine.digests.get(name)!;
    await engine.generate(rowsOf(task.loads[0]!), task.newTokens);
    for (const load of task.loads) {
      const runs = [
        await engine.generate(rowsOf(load), task.newTokens),
        await engine.generate(rowsOf(load), task.newTokens),
      ];
      const best = Math.max(...runs.map(({ tokensPerSecond }) => tokensPerSecond), figures.get(load.label) ?? 0);
      figures.set(load.label, best);
      console.error(`${load.label}: loramux in process ${best.toFixed(1)} tokens/s`);
    }
  } finally {
    await engine.close();
  }
}
