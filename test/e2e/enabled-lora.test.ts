/** A registration's `enable_lora` counts as if the model's folder said so. */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { startServer } from '../rest/served.js';
import { ask, DEMO, query, scratch } from './managed-models.js';

test('what a registration says of LoRA decides what the model takes, and never opens a merged one', async (t) => {
  const dir = scratch(t);
  const folder = (name: string, ...properties: string[]): string => {
    const place = path.join(dir, name);
    mkdirSync(place);
    writeFileSync(path.join(place, 'serving.properties'), [`option.model_id=${DEMO}`, ...properties].join('\n'));
    return place;
  };
  const [merged, closed] = [folder('merged', 'option.merge=pirate'), folder('closed', 'option.enable_lora=false')];
  const url = await startServer(t, ['--log-level', 'error', '--allow-path', dir, '--allow-path', DEMO]);
  const register = (model_name: string, place: string, enable_lora: string) =>
    ask(`${url}/models?${query({ url: place, model_name, enable_lora })}`, 'POST');

  assert.equal((await register('merged', merged, 'true')).status, 200);
  const src = path.join(DEMO, 'adapters/shout');
  const added = await ask(`${url}/models/merged/adapters?${query({ name: 'shout', src })}`, 'POST');
  assert.deepEqual([added.status, added.json.reason], [400, 'LORA_DISABLED'], 'a merged model takes no other adapters');

  const base = await register('base', merged, 'false');
  assert.deepEqual([base.status, base.json.reason], [400, 'MODEL_INVALID']);
  assert.match(base.json.message, /serving\.properties: option\.merge=pirate: .*enable_lora=false/);

  assert.equal((await register('closed', closed, 'true')).status, 200);
  const { json } = await ask(`${url}/models/closed/adapters`);
  assert.deepEqual(json.adapters.map(({ name }: { name: string }) => name).sort(), [
    'french',
    'json',
    'pirate',
    'polite',
    'shout',
  ]);
});
