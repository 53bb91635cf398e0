/** The real server with its model on a WebGPU device that fails: what its clients are told, and what its health says. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { GOLDEN } from '../engine/golden-model.js';
import { spawnServer } from '../rest/served.js';
import { noGpu } from '../webgpu/gpu-golden.js';

const PROVIDER = fileURLToPath(new URL('../webgpu/failing-provider.mjs', import.meta.url));

test('a server whose device fails tells its clients, goes on, and is unready when there is none left', {
  skip: noGpu,
}, async (t) => {
  const place = mkdtempSync(join(tmpdir(), 'loramux-device-'));
  const device = join(place, 'device');
  const { url, stop } = await spawnServer(
    [
      ...['--model', `${GOLDEN}models/qwen3`, '--adapters', `${GOLDEN}adapters/qwen3`],
      ...['--device', 'webgpu', '--log-level', 'fatal'],
    ],
    { NODE_OPTIONS: `--import=${PROVIDER}`, LORAMUX_TEST_DEVICE: device },
  );
  t.after(async () => {
    await stop();
    rmSync(place, { recursive: true });
  });
  const body = { inputs: 'hello', adapters: 'all-r8', parameters: { max_new_tokens: 2, details: true } };
  const ask = async () => {
    const response = await fetch(`${url}/invocations`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    const answer = (await response.json()) as { reason?: string; message?: string; generated_text?: string };
    return { status: response.status, ...answer };
  };
  const ping = async () => (await fetch(`${url}/ping`)).status;
  const health = async () => {
    const response = await fetch(`${url}/grpc.health.v1.Health/Check`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{"service":"qwen3"}',
    });
    return ((await response.json()) as { status: string }).status;
  };
  assert.equal(await health(), 'SERVING');
  const first = await ask();
  assert.equal(first.status, 200);

  writeFileSync(device, 'lost');
  const failed = await ask();
  assert.deepEqual([failed.status, failed.reason], [503, 'DEVICE_FAILED']);
  assert.match(failed.message!, /graphics device was lost .*opened anew, send the request again/);
  assert.equal(await ping(), 200);
  const next = await ask();
  assert.deepEqual([next.status, next.generated_text], [200, first.generated_text]);
  const metrics = await (await fetch(`${url}/metrics`)).text();
  assert.match(metrics, /^loramux_device_restarts_total\{.*\} 1$/m);

  writeFileSync(device, 'gone');
  const last = await ask();
  assert.deepEqual([last.status, last.reason], [503, 'ENGINE_FAILED']);
  assert.match(last.message!, /device could not be opened again: Failed to get a WebGPU adapter/);
  assert.notEqual(await ping(), 200);
  assert.equal(await health(), 'NOT_SERVING');
  const after = await ask();
  assert.deepEqual([after.status, after.reason], [503, 'ENGINE_FAILED']);
  assert.match(after.message!, /has stopped: .*device could not be opened again/);
  const { models } = (await (await fetch(`${url}/models`)).json()) as { models: { status?: string }[] };
  assert.ok(
    models.every(({ status }) => status !== 'READY'),
    JSON.stringify(models),
  );
});
