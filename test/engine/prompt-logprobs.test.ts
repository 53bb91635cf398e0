/** Log-probabilities of prompt tokens against PyTorch's logits, whatever the chunks, the adapter and the neighbours. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { GREEDY } from '../../bench/greedy.js';
import { EngineLoop } from '../../server/engine/engine-loop.js';
import { rawLogprobs } from '../../server/engine/logits-logprobs.js';
import type { PromptEvent, RowRequest } from '../../server/engine/messages.js';
import { mostScored } from '../../server/engine/prompt-logprobs.js';
import { openGolden } from './golden-model.js';

const TOP = 4;

describe('prompt log-probabilities', async () => {
  const model = await openGolden('llama');
  after(() => model.close());
  const { vocabSize } = model.folder.spec;
  const adapter = await model.adapter(model.golden.adapters['all-r8']!.path);

  /** Runs rows together; returns what each was told of its prompt, and its tokens. */
  async function run(prefillChunk: number, rows: readonly Partial<RowRequest>[]) {
    const engine = new EngineLoop(model.runner, {
      maxBatch: 8,
      prefillChunk,
      maxPositions: 10_000,
      prefixBytes: 2 ** 24,
    });
    await engine.load(adapter);
    for (const [id, row] of rows.entries()) {
      const request = { id, selection: [], sampling: GREEDY, maxNewTokens: 2, endIds: [], submittedAt: 0, ...row };
      assert.equal(engine.submit(request as RowRequest), undefined);
    }
    const told = rows.map(() => ({ events: [] as PromptEvent[], tokens: [] as number[] }));
    while (engine.busy) {
      const { prompts, tokens } = await engine.step();
      for (const event of prompts) {
        assert.equal(told[event.id]!.tokens.length, 0, 'the prompt is told before the first token');
        told[event.id]!.events.push(event);
      }
      for (const { id, token } of tokens) told[id]!.tokens.push(token);
    }
    return told;
  }

  for (const chunk of [3, 7, 256]) {
    test(`are those of PyTorch in chunks of ${chunk}, for base and adapter side by side`, async () => {
      const ids = model.promptIds('p0');
      const selection = [{ digest: adapter.digest, weight: 1 }];
      const told = await run(chunk, [
        { promptIds: ids, promptLogprobs: TOP },
        { promptIds: ids, promptLogprobs: TOP, selection },
        { promptIds: ids },
      ]);
      assert.deepEqual(told[2]!.events, [], 'nobody asked');
      for (const [row, name] of [null, 'all-r8'].entries()) {
        const wanted = model.expected(name).p0!;
        const logits = await model.tensors.readFloat32(wanted.logits!);
        let position = 1;
        for (const event of told[row]!.events) {
          assert.equal(event.from, position);
          for (const [i, logprob] of event.logprobs.entries()) {
            const before = logits.subarray((position - 1) * vocabSize, position * vocabSize);
            const reference = rawLogprobs(before, ids[position]!, TOP);
            assert.ok(Math.abs(logprob - reference.logprob) < 2e-4, `position ${position}`);
            const top = [...event.topLogprobs.subarray(i * TOP, (i + 1) * TOP)];
            for (const [rank, one] of reference.top.entries()) {
              assert.ok(Math.abs(top[rank]! - one.logprob) < 2e-4, `position ${position}, rank ${rank}`);
            }
            position += 1;
          }
        }
        assert.equal(position, ids.length, 'every token but the first is scored');
        assert.deepEqual(told[row]!.tokens, wanted.greedy.slice(0, 2));
      }
    });
  }

  test('are complete where the prefix cache knows the prompt', async () => {
    const long = Array.from({ length: 80 }, (_, i) => (i * 37) % vocabSize);
    const [first, again] = await run(256, [{ promptIds: long }, { promptIds: long, promptLogprobs: 0 }]);
    assert.equal(again!.events[0]!.logprobs.length, 79);
    assert.deepEqual(again!.tokens, first!.tokens);
  });

  test('of one token are none', async () => {
    const [told] = await run(16, [{ promptIds: [5], promptLogprobs: 0 }]);
    assert.deepEqual(
      told!.events.map(({ logprobs }) => logprobs.length),
      [0],
    );
  });

  test('take a bounded number of logits a step, however large the vocabulary', () => {
    for (const vocab of [100, 50_000, 262_144, 50_000_000]) {
      const maxChunk = mostScored(vocab);
      assert.ok(maxChunk >= 1);
      assert.ok(maxChunk === 1 || maxChunk * vocab * 4 <= 32 * 1024 * 1024);
    }
  });
});
