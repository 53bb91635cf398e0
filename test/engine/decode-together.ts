/** Rows of different adapters in one decode step, on any backend. */
import type { StepBackend } from '../../server/engine/backend.js';
import type { RowAdapter } from '../../server/engine/row-adapter.js';

/** Positions of a store; more than any golden prompt has. */
const ROOM = 256;

/** Logits of the last token of each prompt, prefilled alone, then one decode of all of them in one batch. */
export async function decodeTogether(
  runner: StepBackend,
  rows: readonly { ids: readonly number[]; adapter: RowAdapter }[],
): Promise<Float32Array[]> {
  const store = runner.createStore(rows.length, ROOM);
  for (const [slot, { ids, adapter }] of rows.entries()) {
    const alone = runner.createStore(1, ROOM);
    await runner.prefill(ids.slice(0, -1), 0, alone, adapter, []);
    alone.copyStretch({ slot: 0, from: 0, count: ids.length - 1 }, store, slot, 0);
    alone.release();
  }
  const logits = await runner.decode(
    rows.map(({ ids, adapter }) => ({ token: ids.at(-1)!, length: ids.length - 1, adapter, horizon: ROOM })),
    store,
  );
  store.release();
  const { vocabSize } = runner.spec;
  return rows.map((_, slot) => logits.slice(slot * vocabSize, (slot + 1) * vocabSize));
}
