/** Heads that config.json ties to the embedding, and what the weight files hold: both tables, or only one of them. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { readAdapterFolder } from '../../server/adapters/read-adapter.js';
import { openSafetensors } from '../../server/adapters/safetensors.js';
import { SessionFactory } from '../../server/engine/decoder-session.js';
import { EmbeddingTable } from '../../server/engine/embedding-table.js';
import { KvStore } from '../../server/engine/kv-store.js';
import { BASE_ROW } from '../../server/engine/row-adapter.js';
import { StepRunner } from '../../server/engine/step-runner.js';
import { AppError } from '../../server/errors.js';
import { type ModelFolder, openModelFolder } from '../../server/model/model-folder.js';
import { adapterBaseOf } from '../../server/model/module-table.js';
import { encodeFile, type RawTensor, readRawFile } from '../adapters/raw-safetensors.js';

const FAMILIES = fileURLToPath(new URL('../fixtures/families/', import.meta.url));
const HEAD = 'lm_head.weight';
const TABLE = 'model.embed_tokens.weight';
const root = mkdtempSync(join(tmpdir(), 'tied-'));
after(() => rmSync(root, { recursive: true }));

/** A fixture's model in a folder of its own, with another config or other tensors. */
async function changed(
  fixture: string,
  change: (config: Record<string, unknown>, tensors: Map<string, RawTensor>) => void,
): Promise<ModelFolder> {
  const from = `${FAMILIES}${fixture}`;
  const config = JSON.parse(readFileSync(`${from}/config.json`, 'utf8')) as Record<string, unknown>;
  const tensors = readRawFile(`${from}/model.safetensors`);
  change(config, tensors);
  const dir = mkdtempSync(join(root, 'model-'));
  writeFileSync(join(dir, 'config.json'), JSON.stringify(config));
  writeFileSync(join(dir, 'model.safetensors'), encodeFile(tensors));
  const folder = await openModelFolder(dir);
  after(() => folder.close());
  return folder;
}

/** Largest difference between the base's logits and those that PyTorch computed of the fixture. */
async function errorOf(folder: ModelFolder, fixture: string): Promise<number> {
  const { prompts, answers } = JSON.parse(readFileSync(`${FAMILIES}${fixture}/expected.json`, 'utf8')) as {
    prompts: Record<string, number[]>;
    answers: { base: Record<string, { logits: string }> };
  };
  const tensors = await openSafetensors(`${FAMILIES}${fixture}/expected.safetensors`);
  const runner = new StepRunner(folder.spec, await EmbeddingTable.read(folder), []);
  runner.addSession(await (await SessionFactory.create(folder, 'fp32')).open('base', 1));
  let worst = 0;
  for (const [prompt, { logits }] of Object.entries(answers.base)) {
    const ids = prompts[prompt]!;
    const store = new KvStore(folder.spec.layers.length, runner.kvWidth, 1, ids.length);
    const rows = ids.map((_, i) => i);
    const own = await runner.prefill(ids, 0, store, BASE_ROW, rows);
    const wanted = await tensors.readFloat32(logits);
    assert.equal(own.length, wanted.length);
    own.forEach((value, i) => {
      worst = Math.max(worst, Math.abs(value - wanted[i]!));
    });
  }
  await tensors.close();
  return worst;
}

const tie = (config: Record<string, unknown>) => {
  config.tie_word_embeddings = true;
};

test('a head of its own in the files counts, although config.json ties it', async () => {
  const folder = await changed('gemma2-uncapped', tie);
  assert.equal(folder.spec.head.tied, false);
  assert.ok((await errorOf(folder, 'gemma2-uncapped')) < 2e-4);
});

test('a copy of the embedding beside it changes nothing: the head stays tied', async () => {
  const folder = await changed('gemma2', (_, tensors) => tensors.set(HEAD, tensors.get(TABLE)!));
  assert.equal(folder.spec.head.tied, true);
  assert.ok((await errorOf(folder, 'gemma2')) < 2e-4);
});

test('a tied table may be there under the name of the head alone', async () => {
  const folder = await changed('gemma2', (_, tensors) => {
    tensors.set(HEAD, tensors.get(TABLE)!);
    tensors.delete(TABLE);
  });
  assert.equal(folder.spec.head.tied, true);
  assert.ok((await errorOf(folder, 'gemma2')) < 2e-4);
  const { embeddingModule, headModule, readWeight } = adapterBaseOf(folder);
  assert.deepEqual(await readWeight(`${embeddingModule}.weight`), await readWeight(`${headModule}.weight`));
});

test('a head of another size than the embedding is refused', async () => {
  await assert.rejects(
    changed('gemma2', (_, tensors) => {
      const { dtype, shape, values } = tensors.get(TABLE)!;
      tensors.set(HEAD, { dtype, shape: [shape[0]! - 1, shape[1]!], values: values.slice(shape[1]!) });
    }),
    (error) => error instanceof AppError && /lm_head.weight has shape \[95,32\]/.test(error.message),
  );
});

test('adaptations that PEFT ties by config.json are refused where the tables differ', async () => {
  const base = adapterBaseOf(await changed('gemma2-uncapped', tie));
  const hidden = base.modules.get(base.embeddingModule)!.outFeatures;
  const refused = async (config: Record<string, unknown>, name: string, why: RegExp) => {
    const dir = join(root, name);
    mkdirSync(dir);
    writeFileSync(
      join(dir, 'adapter_config.json'),
      JSON.stringify({ peft_type: 'LORA', target_modules: [], ...config }),
    );
    const delta = { shape: [1, hidden], values: Array.from({ length: hidden }, () => 1) };
    writeFileSync(
      join(dir, 'adapter_model.safetensors'),
      encodeFile([['base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta', delta]]),
    );
    await assert.rejects(readAdapterFolder(dir, base), (error) => {
      assert.ok(error instanceof AppError);
      assert.match(error.message, why);
      return true;
    });
  };
  const why = /config.json ties them, but they differ/;
  await refused({ trainable_token_indices: [3] }, 'tokens', why);
  await refused({ modules_to_save: ['embed_tokens'], ensure_weight_tying: true }, 'tying', why);
});
