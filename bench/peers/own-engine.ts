/** Our engine for the same loads as peers that run in a process: no HTTP, no other thread, all rows at once. */
import { availableParallelism } from 'node:os';
import type { Dtype } from '../../server/engine/decoder-session.js';
import { openLocalEngine } from '../local-engine.js';
import type { InProcessLoad, InProcessWork } from './python-peer.js';

/** What is run, on the adapters of these names; `loads` name them by index. */
export interface OwnTask extends InProcessWork {
  readonly dtype: Dtype;
  readonly folder: string;
  readonly names: readonly string[];
}

/** Runs each load twice, as the peers do; the better run's tokens per second go to `figures` by label. */
export async function runOwnEngine(task: OwnTask, figures: Map<string, number>): Promise<void> {
  const { model, dtype, folder, names } = task;
  const engine = await openLocalEngine({ model, dtype, threads: availableParallelism(), adapters: { folder, names } });
  try {
    const rowsOf = ({ prompts, adapters }: InProcessLoad) =>
      prompts.map((text, i) => {
        const adapter = adapters[i] ?? null;
        return {
          promptIds: engine.encode(text),
          digest: adapter === null ? undefined : engine.digests.get(names[adapter]!),
        };
      });
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
