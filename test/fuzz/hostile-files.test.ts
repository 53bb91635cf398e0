/**
 * Files that strangers bring, broken at random: each is read, or refused with an error of the table that names the file.
 * Nothing else may be thrown, and memory stays bounded. Long runs: `LORAMUX_FUZZ_RUNS=5000 npm test -- test/fuzz`.
 */
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { flattenReplaced } from '../../server/adapters/flatten.js';
import { readAdapterFolder } from '../../server/adapters/read-adapter.js';
import { AppError, type ErrorReason } from '../../server/errors.js';
import { openModelFolder } from '../../server/model/model-folder.js';
import { adapterBaseOf } from '../../server/model/module-table.js';
import { allLinears } from '../../server/model/spec.js';
import { makeTokenizer } from '../../server/text/hf-tokenizer.js';
import { GOLDEN } from '../engine/golden-model.js';
import { FIXTURES } from '../model/gguf-runner.js';
import { changes, edited, edits, MOST_GROWTH, mutate, RUNS, SEED } from './mutations.js';

const CASES = fileURLToPath(new URL('../fixtures/peft-cases/', import.meta.url));
const dir = mkdtempSync(join(tmpdir(), 'loramux-fuzz-'));
after(() => rmSync(dir, { recursive: true }));
const llama = await openModelFolder(`${GOLDEN}models/llama`);
after(() => llama.close());
const base = adapterBaseOf(llama);
const before = process.memoryUsage().rss;

const ADAPTER_REASONS: readonly ErrorReason[] = [
  'ADAPTER_INVALID',
  'ADAPTER_UNSUPPORTED',
  'ADAPTER_SOURCE_INVALID',
  'ADAPTER_MEMORY_EXHAUSTED',
];

interface Counts {
  read: number;
  refused: number;
}

/** Runs `read`; whatever is thrown must be a refusal of one of these reasons whose message matches. */
async function refusedOrRead(
  read: () => Promise<void>,
  reasons: readonly ErrorReason[],
  names: RegExp,
  counts: Counts,
): Promise<void> {
  try {
    await read();
    counts.read += 1;
  } catch (thrown) {
    assert.ok(thrown instanceof AppError, `${(thrown as Error).stack}`);
    assert.ok(reasons.includes(thrown.reason), `${thrown.reason}: ${thrown.message} ${thrown.stack}`);
    assert.match(thrown.message, names);
    counts.refused += 1;
  }
}

/** Checks a property over broken inputs of one kind and tells how many of them were refused. */
async function fuzz<T>(
  t: { diagnostic(message: string): void },
  inputs: fc.Arbitrary<T>,
  check: (input: T, counts: Counts) => Promise<void>,
): Promise<void> {
  const counts = { read: 0, refused: 0 };
  await fc.assert(
    fc.asyncProperty(inputs, (input) => check(input, counts)),
    { numRuns: RUNS, seed: SEED },
  );
  t.diagnostic(`${counts.refused} refused, ${counts.read} read, of ${counts.refused + counts.read} runs`);
  assert.ok(counts.refused > 0, 'the changes break something');
  assert.ok(process.memoryUsage().rss - before < MOST_GROWTH, 'memory stays bounded');
}

/** Adapters of several kinds for one base: plain, a resized vocabulary, DoRA with a head. */
const ADAPTERS = ['resized', 'resized-targets', 'resized-dora-head', 'alora-saved-head', 'plain'];
const folderOf = (name: string) => (name === 'plain' ? `${GOLDEN}adapters/llama/all-r8` : `${CASES}${name}`);
const anyAdapter = fc.constantFrom(...ADAPTERS);
const WEIGHTS = 'adapter_model.safetensors';
const CONFIG = 'adapter_config.json';
const files = new Map(ADAPTERS.map((name) => [name, readFileSync(`${folderOf(name)}/${WEIGHTS}`)]));
const work = join(dir, 'adapter');

async function readAdapter(): Promise<void> {
  await flattenReplaced(await readAdapterFolder(work, base, { maxBytes: 1 << 28 }), base);
}

test('safetensors of adapters', async (t) => {
  await fuzz(t, fc.tuple(anyAdapter, changes), async ([name, list], counts) => {
    cpSync(folderOf(name), work, { recursive: true });
    writeFileSync(join(work, WEIGHTS), mutate(files.get(name)!, list));
    await refusedOrRead(
      readAdapter,
      ADAPTER_REASONS,
      /adapter_model\.safetensors|adapter needs \d+ bytes|not finite/,
      counts,
    );
  });
});

test('adapter_config.json, as bytes and as values', async (t) => {
  const input = fc.tuple(
    anyAdapter,
    fc.oneof(
      changes.map((bytes) => ({ bytes })),
      edits.map((values) => ({ values })),
    ),
  );
  await fuzz(t, input, async ([name, how], counts) => {
    cpSync(folderOf(name), work, { recursive: true });
    const text = readFileSync(`${folderOf(name)}/${CONFIG}`);
    const broken =
      'bytes' in how ? mutate(text, how.bytes) : JSON.stringify(edited(JSON.parse(text.toString()), how.values));
    writeFileSync(join(work, CONFIG), broken);
    await refusedOrRead(
      readAdapter,
      ADAPTER_REASONS,
      /adapter_config\.json|adapter_model\.safetensors|not finite/,
      counts,
    );
  });
});

test('the tokens beside an adapter with a vocabulary of its own', async (t) => {
  const tokens = {
    added_tokens: Array.from({ length: 7 }, (_, i) => ({ id: 384 + i, content: `<${i}>`, special: true })),
  };
  const input = fc.oneof(
    changes.map((bytes) => ({ bytes })),
    edits.map((values) => ({ values })),
  );
  rmSync(work, { recursive: true, force: true });
  cpSync(`${CASES}resized`, work, { recursive: true });
  await fuzz(t, input, async (how, counts) => {
    const broken =
      'bytes' in how
        ? mutate(Buffer.from(JSON.stringify(tokens)), how.bytes)
        : JSON.stringify(edited(tokens, how.values) ?? null);
    writeFileSync(join(work, 'tokenizer.json'), broken);
    await refusedOrRead(readAdapter, ADAPTER_REASONS, /tokenizer\.json/, counts);
  });
  rmSync(join(work, 'tokenizer.json'));
});

test('GGUF adapters', async (t) => {
  const original = readFileSync(`${FIXTURES}adapter-llama-all-r8.gguf`);
  const path = join(dir, 'broken-adapter.gguf');
  await fuzz(t, changes, async (list, counts) => {
    writeFileSync(path, mutate(original, list));
    const read = async () => {
      await flattenReplaced(await readAdapterFolder(path, base, { maxBytes: 1 << 28 }), base);
    };
    await refusedOrRead(read, ADAPTER_REASONS, /broken-adapter\.gguf|not finite/, counts);
  });
});

test('GGUF models', async (t) => {
  const original = readFileSync(`${FIXTURES}base-llama.gguf`);
  const path = join(dir, 'broken-model.gguf');
  await fuzz(t, changes, async (list, counts) => {
    writeFileSync(path, mutate(original, list));
    const read = async () => {
      const folder = await openModelFolder(path);
      try {
        const { tokenizer, config } = folder.tokenizerFiles!();
        makeTokenizer(tokenizer, config).encode('a text\n', true);
        for (const { weight } of allLinears(folder.spec)) await folder.checkpoint.readFloat32(weight);
      } finally {
        await folder.close();
      }
    };
    await refusedOrRead(
      read,
      ['MODEL_INVALID', 'MODEL_UNSUPPORTED'] as ErrorReason[],
      /broken-model\.gguf|tokenizer\.json|tensor/,
      counts,
    );
  });
});

test('tokenizer.json of models', async (t) => {
  const models = ['llama', 'gemma', 'gpt2'].map((name) =>
    JSON.parse(readFileSync(`${GOLDEN}models/${name}/tokenizer.json`, 'utf8')),
  );
  await fuzz(t, fc.tuple(fc.nat(models.length - 1), edits), async ([at, list], counts) => {
    const read = async () => {
      const tokenizer = makeTokenizer(edited(models[at], list) as Record<string, unknown>);
      for (const text of ['', 'Hello, world!\n', 'é🙂 <s>']) tokenizer.decode(tokenizer.encode(text, true), false);
    };
    await refusedOrRead(read, ['MODEL_INVALID'], /tokenizer\.json/, counts);
  });
});
