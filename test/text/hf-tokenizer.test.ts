import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { AppError } from '../../server/errors.js';
import { loadTokenizer } from '../../server/text/hf-tokenizer.js';

const GOLDEN = fileURLToPath(new URL('../../../shared/golden/', import.meta.url));
const MODELS = ['llama', 'llama-rope3', 'qwen2', 'qwen3', 'mistral', 'gemma', 'gpt2'];

interface TokenizerCases {
  vocab_size: number;
  special_ids: number[];
  bos_token: string | null;
  bos_token_id: number | null;
  encode: { text: string; ids: number[]; ids_no_special: number[]; decoded: string; decoded_skip_special: string }[];
  decode: { ids: number[]; decoded: string; decoded_skip_special: string }[];
}

for (const model of MODELS) {
  describe(`golden tokenizer ${model}`, async () => {
    const tokenizer = await loadTokenizer(join(GOLDEN, 'models', model));
    const cases: TokenizerCases = JSON.parse(
      await readFile(join(GOLDEN, 'golden', model, 'tokenizer_cases.json'), 'utf8'),
    );

    it('encodes with and without special tokens', () => {
      for (const { text, ids, ids_no_special } of cases.encode) {
        assert.deepEqual(tokenizer.encode(text, true), ids, JSON.stringify(text));
        assert.deepEqual(tokenizer.encode(text, false), ids_no_special, JSON.stringify(text));
      }
    });

    it('decodes with and without special tokens, broken bytes included', () => {
      for (const { ids, decoded, decoded_skip_special } of [...cases.encode, ...cases.decode]) {
        assert.equal(tokenizer.decode(ids, false), decoded, JSON.stringify(ids));
        assert.equal(tokenizer.decode(ids, true), decoded_skip_special, JSON.stringify(ids));
      }
    });

    it('knows its special tokens', () => {
      const special = Array.from({ length: cases.vocab_size }, (_, id) => id).filter((id) => tokenizer.isSpecial(id));
      assert.deepEqual(special, cases.special_ids);
      if (cases.bos_token !== null) assert.equal(tokenizer.idOf(cases.bos_token), cases.bos_token_id);
      assert.equal(tokenizer.idOf('no such token'), undefined);
    });

    it('decodes an id without a token to nothing', () => {
      const [id] = tokenizer.encode('a', false).slice(-1);
      assert.equal(tokenizer.decode([cases.vocab_size + 5], false), '');
      assert.equal(tokenizer.decode([id!, cases.vocab_size + 5, id!], false), tokenizer.decode([id!, id!], false));
    });
  });
}

describe('broken tokenizer files', () => {
  let folder = '';
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'loramux-tokenizer-'));
  });
  after(() => rm(folder, { recursive: true }));

  const refuses = async (what: RegExp): Promise<void> => {
    await assert.rejects(loadTokenizer(folder), (error) => {
      assert.ok(error instanceof AppError);
      assert.equal(error.reason, 'MODEL_INVALID');
      assert.match(error.message, what);
      return true;
    });
  };

  it('refuses a folder without tokenizer.json', () => refuses(/tokenizer\.json is missing/));

  it('refuses a file that is not JSON, or no object', async () => {
    await writeFile(join(folder, 'tokenizer.json'), '{"model": ');
    await refuses(/tokenizer\.json is not valid JSON/);
    await writeFile(join(folder, 'tokenizer.json'), '[]');
    await refuses(/tokenizer\.json must hold a JSON object/);
    await writeFile(join(folder, 'tokenizer.json'), '{}');
    await refuses(/tokenizer\.json cannot be used/);
  });

  it('refuses a decoder step that it does not know, by its name', async () => {
    await writeFile(join(folder, 'tokenizer.json'), JSON.stringify({ decoder: { type: 'Rot13' } }));
    await refuses(/decoder step "Rot13" is not supported/);
  });

  it('names a broken tokenizer_config.json', async () => {
    await writeFile(join(folder, 'tokenizer_config.json'), 'nonsense');
    await refuses(/tokenizer_config\.json is not valid JSON/);
  });
});
