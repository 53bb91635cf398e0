/** Families that the golden set lacks, against PyTorch: fixtures made by tools/fixtures/make_families.py. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { GREEDY } from '../../bench/greedy.js';
import { SessionFactory } from '../../server/engine/decoder-session.js';
import { EmbeddingTable } from '../../server/engine/embedding-table.js';
import { EngineLoop } from '../../server/engine/engine-loop.js';
import { KvStore } from '../../server/engine/kv-store.js';
import { BASE_ROW, combine } from '../../server/engine/row-adapter.js';
import { StepRunner } from '../../server/engine/step-runner.js';
import { SupportRecord } from '../support.js';
import { CLEAR_MARGIN, FAMILY_FIXTURES, type FamilyAnswer, openFamily, TOLERANCE, worst } from './family-fixture.js';

const support = new SupportRecord('families');
const argmax = (values: Float32Array) => values.reduce((best, value, i) => (value > values[best]! ? i : best), 0);

for (const name of FAMILY_FIXTURES) {
  describe(`family fixture ${name}`, async () => {
    const { expected, folder, logits, bind, close } = await openFamily(name);
    const factory = await SessionFactory.create(folder, 'fp32');
    const runner = new StepRunner(folder.spec, await EmbeddingTable.read(folder), []);
    for (const variant of ['base', 'lora', 'full'] as const) runner.addSession(await factory.open(variant, 1));
    const { vocabSize } = folder.spec;
    after(close);

    test('all prompts and adapters in one batch: every row gets its own greedy tokens', async () => {
      const engine = new EngineLoop(runner, { maxBatch: 8, prefillChunk: 16, maxPositions: 100_000 });
      const rows: { answer: FamilyAnswer; got: number[] }[] = [];
      for (const [adapterName, prompts] of Object.entries(expected.answers)) {
        const adapter = await bind(adapterName);
        if (adapter !== undefined) await engine.load(adapter);
        for (const [prompt, answer] of Object.entries(prompts)) {
          engine.submit({
            id: rows.length,
            promptIds: expected.prompts[prompt]!,
            selection: adapter === undefined ? [] : [{ digest: adapter.digest, weight: 1 }],
            sampling: GREEDY,
            maxNewTokens: answer.greedy.length,
            endIds: [],
            submittedAt: 0,
          });
          rows.push({ answer, got: [] });
        }
      }
      while (engine.busy) for (const { id, token } of (await engine.step()).tokens) rows[id]!.got.push(token);
      for (const { answer, got } of rows)
        if (answer.greedy_min_margin >= CLEAR_MARGIN) assert.deepEqual(got, answer.greedy, answer.logits);
    });

    for (const [adapterName, prompts] of Object.entries(expected.answers)) {
      test(`${adapterName}: logits at every position, chunked prefill and greedy decoding equal PyTorch`, async () => {
        const bound = await bind(adapterName);
        const adapter = bound === undefined ? BASE_ROW : combine([{ adapter: bound, weight: 1 }]);
        await support.note(folder.spec.modelType, bound?.features ?? ['base'], async () => {
          for (const [prompt, answer] of Object.entries(prompts)) {
            const { greedy } = answer;
            const ids = expected.prompts[prompt]!;
            const horizon = ids.length + greedy.length;
            const open = () => new KvStore(folder.spec.layers.length, runner.kvWidth, 1, ids.length);
            const prefill = async (store: KvStore, chunk: number, most: number) => {
              const parts: number[] = [];
              for (let at = 0; at < ids.length; at += chunk) {
                const part = ids.slice(at, at + chunk);
                const rows = part.map((_, i) => i);
                parts.push(...(await runner.prefill(part, at, store, adapter, rows, most)));
              }
              return Float32Array.from(parts); // [prompt, vocab]
            };
            const check = async (what: string, computed: Float32Array, tensor: string) => {
              const error = worst(computed, await logits(tensor));
              assert.ok(error <= TOLERANCE, `${prompt}: ${what} differ by ${error}`);
            };
            const atHorizon = answer.horizon_logits ?? answer.logits;
            const store = open();
            const whole = await prefill(store, ids.length, horizon);
            await check('logits', whole, atHorizon);
            await check(
              'logits of a row that ends with its prompt',
              await prefill(open(), ids.length, ids.length),
              answer.logits,
            );
            await check('logits of a prefill in chunks', await prefill(open(), 5, horizon), atHorizon);

            if (answer.greedy_min_margin < CLEAR_MARGIN) continue;
            const got: number[] = [];
            let last = whole.slice(-vocabSize);
            for (let length = ids.length; got.length < greedy.length; length += 1) {
              got.push(argmax(last));
              last = (await runner.decode([{ token: got.at(-1)!, length, adapter, horizon }], store)).slice();
            }
            assert.deepEqual(got, greedy, `${prompt}: greedy tokens`);
          }
        });
      });
    }
  });
}
