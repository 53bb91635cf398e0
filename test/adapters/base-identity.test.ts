import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { foreignBase, servedBase } from '../../server/adapters/base-identity.js';
import { readAdapterFolder } from '../../server/adapters/read-adapter.js';
import type { AdapterBase } from '../../server/adapters/types.js';
import { validateAdapter } from '../../server/adapters/validate-adapter.js';
import { SUPPORTED_FEATURES } from '../../server/engine/features.js';
import { AppError } from '../../server/errors.js';
import { openModelFolder } from '../../server/model/model-folder.js';
import { adapterBaseOf } from '../../server/model/module-table.js';
import { GOLDEN } from '../engine/golden-model.js';

const named = (nameOrPath: string, ...aliases: string[]) => ({ nameOrPath, aliases }) as unknown as AdapterBase;

describe('base identity', async () => {
  const model = await openModelFolder(`${GOLDEN}models/llama`);
  const base = adapterBaseOf(model, 'served-name');
  const folder = mkdtempSync(join(tmpdir(), 'loramux-base-'));
  after(async () => {
    rmSync(folder, { recursive: true });
    await model.close();
  });
  const withBase = (name: string | null) => {
    cpSync(`${GOLDEN}adapters/llama/qv-r4`, folder, { recursive: true });
    const config = JSON.parse(readFileSync(`${GOLDEN}adapters/llama/qv-r4/adapter_config.json`, 'utf8')) as object;
    rmSync(join(folder, 'adapter_config.json'), { force: true });
    writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify({ ...config, base_model_name_or_path: name }));
  };

  test('hub names, folders and cache snapshots of one model are the same base', () => {
    for (const name of ['org/Tiny-Llama', '/models/tiny-llama/', '/cache/models--org--tiny-llama/snapshots/0a1b2c/']) {
      assert.equal(foreignBase(name, named('somewhere/TINY-LLAMA')), undefined, name);
      assert.equal(foreignBase(name, named('x', '/srv/tiny-llama')), undefined, name);
    }
    assert.equal(foreignBase('', named('x')), undefined);
    assert.match(foreignBase('org/other', named('org/tiny'))!, /"org\/other", served is "org\/tiny"/);
  });

  test('a base that was fetched goes by the names of its source, whatever the folder of its files is called', () => {
    const fetched = (origin: string) => servedBase(named('files', '/cache/0a1b/files'), 'chat', origin);
    for (const origin of [
      'hf://org/tiny-llama@main',
      'hf://org/tiny-llama@v1/weights',
      's3://models/tiny-llama',
      'https://files.example/Tiny-Llama.tar.gz',
      'https://files.example/tiny-llama.zip?[hidden]',
    ]) {
      for (const name of ['org/tiny-llama', 'chat'])
        assert.equal(foreignBase(name, fetched(origin)), undefined, origin);
      assert.equal(
        foreignBase('org/other', fetched(origin)),
        `the config names the base "org/other", served is "${origin}"`,
      );
    }
  });

  test('another name is a warning by default, a refusal when strict, and nothing when off', async () => {
    withBase('org/another-model');
    assert.match((await readAdapterFolder(folder, base)).warnings.join(), /org\/another-model/);
    assert.deepEqual((await readAdapterFolder(folder, base, { baseCheck: 'off' })).warnings, []);
    await assert.rejects(
      readAdapterFolder(folder, base, { baseCheck: 'strict' }),
      (error) =>
        error instanceof AppError && error.reason === 'ADAPTER_INVALID' && /org\/another-model/.test(error.message),
    );
  });

  test('an adapter of another model that does not fit is told first whose it is', async () => {
    const other = `${GOLDEN}adapters/qwen2/all-r8`;
    const cause = /^the config names the base "[^"]*qwen2[^"]*", served is "[^"]*"/;
    for (const baseCheck of ['warn', 'off'] as const) {
      const wanted = baseCheck === 'warn' ? new RegExp(`${cause.source}; \\d+ faults: `) : /^\d+ faults: /;
      await assert.rejects(readAdapterFolder(other, base, { baseCheck }), {
        reason: 'ADAPTER_INVALID',
        message: wanted,
      });
      const request = { folder: other, roots: [other], supportedFeatures: SUPPORTED_FEATURES, baseCheck };
      const { faults } = await validateAdapter(request, base);
      assert.equal(cause.test(faults[0]!), baseCheck === 'warn');
    }
  });

  test('the name that the model is served under counts, and so does no name at all', async () => {
    for (const name of ['served-name', null]) {
      withBase(name);
      assert.deepEqual((await readAdapterFolder(folder, base, { baseCheck: 'strict' })).warnings, []);
    }
  });
});
