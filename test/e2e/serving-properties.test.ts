/** What a model's serving.properties asks for, on the real server. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { GOLDEN } from '../engine/golden-model.js';
import { startServer } from '../rest/served.js';

const MODEL = `${GOLDEN}models/llama`;
const ADAPTERS = `${GOLDEN}adapters/llama`;

function folder(t: TestContext, properties: readonly string[]): string {
  const dir = mkdtempSync(path.join(tmpdir(), 'loramux-serving-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  mkdirSync(path.join(dir, 'm'));
  writeFileSync(path.join(dir, 'm/serving.properties'), [`option.model_id=${MODEL}`, ...properties].join('\n'));
  return path.join(dir, 'm');
}

test('limits of one model are its own, and an adapter above its rank is refused with both numbers', async (t) => {
  const limited = folder(t, ['option.max_lora_rank=8', 'option.max_rolling_batch_size=3', 'job_queue_size=7']);
  const flags = ['--log-level', 'error', '--allow-path', ADAPTERS, '--model', limited, '--model', `plain=${MODEL}`];
  const url = await startServer(t, [...flags, '--max-batch', '5']);
  const register = async (model: string, name: string) => {
    const query = new URLSearchParams({ name, src: path.join(ADAPTERS, name) });
    const response = await fetch(`${url}/models/${model}/adapters?${query}`, { method: 'POST' });
    return { status: response.status, json: (await response.json()) as { reason?: string; message?: string } };
  };
  const tooHigh = await register('m', 'mlp-r16');
  assert.deepEqual([tooHigh.status, tooHigh.json.reason], [424, 'ADAPTER_UNSUPPORTED']);
  assert.match(tooHigh.json.message!, /rank is 16, and option\.max_lora_rank is 8/);
  assert.equal((await register('m', 'all-r8')).status, 200);
  assert.equal((await register('plain', 'mlp-r16')).status, 200);
  const sizes = async (model: string) => {
    const [{ models }] = (await (await fetch(`${url}/models/${model}`)).json()) as [
      { models: [Record<string, number>] },
    ];
    return [models[0].batchSize, models[0].queueSize];
  };
  assert.deepEqual(await sizes('m'), [3, 7]);
  assert.deepEqual(await sizes('plain'), [5, 1000]);
});
