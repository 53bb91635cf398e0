/** How far a golden model on a device is from PyTorch's logits. */
import type { BoundAdapter } from '../../server/adapters/types.js';
import { combine, type RowAdapter } from '../../server/engine/row-adapter.js';
import { decodeTogether } from '../engine/decode-together.js';
import { logitError } from '../engine/golden-model.js';
import type { GpuGolden } from './gpu-golden.js';

/**
 * Reads a prompt with each adapter alone, at all positions, and then decodes the last tokens of all in one batch.
 * @param adapters with their names in the golden set; null and undefined = the base
 * @returns the largest differences of a logit
 */
export async function worstErrors(
  { model, runner }: Pick<GpuGolden, 'model' | 'runner'>,
  adapters: readonly (readonly [name: string | null, adapter: BoundAdapter | undefined])[],
): Promise<{ alone: number; batch: number }> {
  const prompts = model.golden.prompts.filter(({ token_ids }) => token_ids.length > 2);
  const rows: { ids: readonly number[]; adapter: RowAdapter; last: Float32Array }[] = [];
  const worst = { alone: 0, batch: 0 };
  for (const [i, [name, adapter]] of adapters.entries()) {
    if (adapter !== undefined) await runner.load(adapter);
    const selection = combine(adapter === undefined ? [] : [{ adapter, weight: 1 }]);
    const { id, token_ids: ids } = prompts[i % prompts.length]!;
    const wanted = model.expected(name)[id]!;
    const store = runner.createStore(1, ids.length);
    const computed = await runner.prefill(ids, 0, store, selection, [...ids.keys()]);
    store.release();
    worst.alone = Math.max(worst.alone, await logitError(model, wanted, computed));
    const reference = await model.tensors.readFloat32((wanted.logits ?? wanted.last)!);
    rows.push({ ids, adapter: selection, last: reference.subarray(-runner.spec.vocabSize) });
  }
  for (const [at, logits] of (await decodeTogether(runner, rows)).entries())
    for (const [token, value] of logits.entries())
      worst.batch = Math.max(worst.batch, Math.abs(value - rows[at]!.last[token]!));
  return worst;
}
