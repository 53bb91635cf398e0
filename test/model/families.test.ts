/** Families that the golden set lacks, against PyTorch: fixtures made by tools/fixtures/make_families.py. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { flattenReplaced } from '../../server/adapters/flatten.js';
import { readAdapterFolder } from '../../server/adapters/read-adapter.js';
import { openSafetensors } from '../../server/adapters/safetensors.js';
import { SessionFactory } from '../../server/engine/decoder-session.js';
import { EmbeddingTable } from '../../server/engine/embedding-table.js';
import { KvStore } from '../../server/engine/kv-store.js';
import { BASE_ROW, combine } from '../../server/engine/row-adapter.js';
import { StepRunner } from '../../server/engine/step-runner.js';
import { AppError } from '../../server/errors.js';
import { describeDecoder } from '../../server/model/families/table.js';
import { openModelFolder } from '../../server/model/model-folder.js';
import { adapterBaseOf } from '../../server/model/module-table.js';

const ROOT = fileURLToPath(new URL('../fixtures/families/', import.meta.url));
const TOLERANCE = 2e-4;
/** Greedy continuations are compared where PyTorch's own choice was clear. */
const CLEAR_MARGIN = 2e-3;

interface Expected {
  readonly prompts: Record<string, number[]>;
  readonly answers: Record<string, Record<string, { logits: string; greedy: number[]; greedy_min_margin: number }>>;
}

const worst = (a: Float32Array, b: Float32Array) => {
  assert.equal(a.length, b.length);
  return a.reduce(
    (most, value, i) => Math.max(most, Number.isNaN(value) ? Number.POSITIVE_INFINITY : Math.abs(value - b[i]!)),
    0,
  );
};
const argmax = (values: Float32Array) => values.reduce((best, value, i) => (value > values[best]! ? i : best), 0);

for (const name of readdirSync(ROOT)) {
  describe(`family fixture ${name}`, async () => {
    const dir = `${ROOT}${name}`;
    const expected = JSON.parse(readFileSync(`${dir}/expected.json`, 'utf8')) as Expected;
    const tensors = await openSafetensors(`${dir}/expected.safetensors`);
    const folder = await openModelFolder(dir);
    const factory = await SessionFactory.create(folder, 'fp32', 1);
    const runner = new StepRunner(folder.spec, await EmbeddingTable.read(folder), []);
    for (const variant of ['base', 'lora', 'full'] as const) runner.addSession(await factory.open(variant));
    const base = adapterBaseOf(folder);
    const { vocabSize } = folder.spec;
    after(async () => {
      await tensors.close();
      await folder.close();
    });

    for (const [adapterName, prompts] of Object.entries(expected.answers)) {
      test(`${adapterName}: logits at every position, chunked prefill and greedy decoding equal PyTorch`, async () => {
        const adapter =
          adapterName === 'base'
            ? BASE_ROW
            : combine([
                {
                  adapter: await flattenReplaced(await readAdapterFolder(`${dir}/adapters/${adapterName}`, base), base),
                  weight: 1,
                },
              ]);
        for (const [prompt, { logits, greedy, greedy_min_margin }] of Object.entries(prompts)) {
          const ids = expected.prompts[prompt]!;
          const horizon = ids.length + greedy.length;
          const reference = await tensors.readFloat32(logits);
          const open = () => new KvStore(folder.spec.layers.length, runner.kvWidth, 1, ids.length);
          const all = ids.map((_, i) => i);
          const store = open();
          const whole = (await runner.prefill(ids, 0, store, adapter, all, horizon)).slice();
          assert.ok(worst(whole, reference) <= TOLERANCE, `${prompt}: logits differ by ${worst(whole, reference)}`);

          const chunks: number[] = [];
          const chunkStore = open();
          for (let at = 0; at < ids.length; at += 7) {
            const chunk = ids.slice(at, at + 7);
            chunks.push(
              ...(await runner.prefill(
                chunk,
                at,
                chunkStore,
                adapter,
                chunk.map((_, i) => i),
                horizon,
              )),
            );
          }
          assert.ok(worst(Float32Array.from(chunks), reference) <= TOLERANCE, `${prompt}: chunked logits differ`);

          if (greedy_min_margin < CLEAR_MARGIN) continue;
          const got: number[] = [];
          let last = whole.slice(-vocabSize);
          for (let length = ids.length; got.length < greedy.length; length += 1) {
            got.push(argmax(last));
            last = (await runner.decode([{ token: got.at(-1)!, length, adapter, horizon }], store)).slice();
          }
          assert.deepEqual(got, greedy, `${prompt}: greedy tokens`);
        }
      });
    }
  });
}

describe('config.json', () => {
  const llama = JSON.parse(readFileSync(`${ROOT}llama-bias/config.json`, 'utf8')) as Record<string, unknown>;
  const refusal = (changes: Record<string, unknown>) => {
    try {
      describeDecoder({ ...llama, ...changes }, 'config.json');
    } catch (error) {
      assert.ok(error instanceof AppError && error.reason === 'MODEL_INVALID');
      return error.message;
    }
    return '';
  };

  test('a field that nobody reads is refused by name, unless it is switched off', () => {
    assert.match(refusal({ attention_sink_size: 4 }), /attention_sink_size = 4/);
    assert.equal(refusal({ attention_sink_size: null, new_switch: false, new_list: [] }), '');
  });

  test('an unknown family, activation or rope rule is refused with what is supported', () => {
    assert.match(refusal({ model_type: 'mamba' }), /"mamba" is not supported; supported: .*llama/);
    assert.match(refusal({ hidden_act: 'xielu' }), /hidden_act "xielu" is not implemented; wanted .*silu/);
    assert.match(
      refusal({ rope_parameters: { rope_type: 'spiral', rope_theta: 1e4 } }),
      /rope_type "spiral" is not implemented/,
    );
  });

  test('impossible sizes and quantised checkpoints are refused', () => {
    assert.match(refusal({ num_key_value_heads: 3 }), /num_key_value_heads/);
    assert.match(refusal({ hidden_size: -1 }), /hidden_size -1/);
    assert.match(refusal({ quantization_config: { bits: 4 } }), /quantization_config/);
  });
});
