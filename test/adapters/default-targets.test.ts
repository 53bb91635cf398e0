/** Adapters whose config names no modules: for a few families PEFT has some, and so has the binding. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Faults } from '../../server/adapters/faults.js';
import { parsePeftConfig } from '../../server/adapters/peft-config.js';
import { promisedModules } from '../../server/adapters/target-match.js';
import { openModelFolder } from '../../server/model/model-folder.js';
import { adapterBaseOf } from '../../server/model/module-table.js';

const CONFIG = parsePeftConfig(JSON.stringify({ peft_type: 'LORA', r: 4, lora_alpha: 8, target_modules: null }));

/** The last parts of the modules that are meant in a fixture's model, each once; the faults where there are some. */
async function targets(fixture: string): Promise<string[]> {
  const folder = await openModelFolder(fileURLToPath(new URL(`../fixtures/families/${fixture}`, import.meta.url)));
  const faults = new Faults();
  const { lora } = promisedModules(CONFIG, adapterBaseOf(folder), false, faults);
  await folder.close();
  if (faults.count > 0) return [...faults.all];
  return [...new Set([...lora.keys()].map((name) => name.split('.').at(-1)!))];
}

const known: Readonly<Record<string, readonly string[]>> = {
  gpt_bigcode: ['c_attn'],
  gpt_neo: ['q_proj', 'v_proj'],
  gpt_neox: ['query_key_value'],
  gptj: ['q_proj', 'v_proj'],
  opt: ['q_proj', 'v_proj'],
  stablelm: ['q_proj', 'v_proj'],
};
for (const [fixture, wanted] of Object.entries(known)) {
  test(`${fixture}: ${wanted.join(', ')}`, async () => assert.deepEqual(await targets(fixture), wanted));
}

test('a family for which PEFT has none is refused', async () => {
  assert.match((await targets('glm4')).join(), /target_modules is null, and there is no default for a glm4 model/);
});
