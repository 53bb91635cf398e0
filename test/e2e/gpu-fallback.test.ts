/** The real server under `--device auto` with a graphics device that fails for good while answers stream. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { GOLDEN } from '../engine/golden-model.js';
import { lines, postJson } from '../rest/http.js';
import { spawnServer } from '../rest/served.js';
import { noGpu } from '../webgpu/gpu-golden.js';

const preload = (name: string) => `--import=${fileURLToPath(new URL(`../webgpu/${name}.mjs`, import.meta.url))}`;

/** The Vulkan driver of the tests under a name that does not say that it is made of software. */
function driver(place: string): Record<string, string> {
  const named = process.env.VK_ICD_FILENAMES;
  if (named === undefined) return {};
  const { ICD, ...more } = JSON.parse(readFileSync(named, 'utf8')) as { ICD: { library_path: string } };
  const copy = join(place, 'driver.json');
  const library = resolve(dirname(named), ICD.library_path);
  writeFileSync(copy, JSON.stringify({ ...more, ICD: { ...ICD, library_path: library } }));
  return { VK_ICD_FILENAMES: copy };
}

/** A server whose model is on the device under `--device auto`; `lose` makes it fail for good. */
async function start(t: TestContext, flags: readonly string[]) {
  const place = mkdtempSync(join(tmpdir(), 'loramux-device-'));
  const device = join(place, 'device');
  const { url, output, stop } = await spawnServer(
    ['--model', `${GOLDEN}models/llama`, '--adapters', `${GOLDEN}adapters/llama`, '--device', 'auto', ...flags],
    {
      ...driver(place),
      NODE_OPTIONS: ['failing-provider', 'graphics-card'].map(preload).join(' '),
      LORAMUX_TEST_DEVICE: device,
    },
  );
  t.after(async () => {
    await stop();
    rmSync(place, { recursive: true });
  });
  return { url, output, lose: () => writeFileSync(device, 'gone') };
}

test('answers go on on the processor when the device fails, and everybody is told where the model runs', {
  skip: noGpu,
}, async (t) => {
  const { url, output, lose } = await start(t, [
    '--allow-path',
    `${GOLDEN}models`,
    '--engines',
    '2',
    '--dtype',
    'fp32',
  ]);
  const parameters = { max_new_tokens: 60, details: true };
  const stream = async (adapters: string, told: () => void = () => {}) => {
    const response = await postJson(`${url}/invocations`, { inputs: 'hello', adapters, parameters, stream: true });
    let text = '';
    for await (const part of response.body!.pipeThrough(new TextDecoderStream())) {
      text += part;
      told();
    }
    const last = lines(text).at(-1) as { generated_text?: string; details?: { generated_tokens: number } };
    assert.equal(last.details?.generated_tokens, 60, text.slice(-300));
    return last.generated_text;
  };
  const describe = async (name: string) => {
    const [found] = (await (await fetch(`${url}/models/${name}`)).json()) as [{ models: Record<string, unknown>[] }];
    return found.models[0] as { status: string; device: string; deviceReason: string };
  };
  const rpc = async (procedure: string, body: object) =>
    (await postJson(`${url}/${procedure}`, body)).json() as Promise<{
      status?: string;
      model?: { description: { device: string; deviceReason: string } };
    }>;
  const metric = async (name: string) =>
    (await (await fetch(`${url}/metrics`)).text()).split('\n').filter((line) => line.startsWith(`loramux_${name}{`));
  const names = ['all-r8', '', 'qv-r4', 'dora'];
  const wanted = await Promise.all(names.map((name) => stream(name)));
  const before = await describe('llama');
  assert.equal(before.device, 'webgpu');
  assert.match(before.deviceReason, /^found renderD128/);
  assert.deepEqual(await metric('engine_device'), ['loramux_engine_device{model="llama",device="webgpu"} 1']);

  const begun = new Set<string>();
  const answers = names.map((name) =>
    stream(name, () => {
      begun.add(name);
      if (begun.size === names.length) lose();
    }),
  );
  assert.deepEqual(await Promise.all(answers), wanted);
  const reason =
    /^found renderD128.*, but the device failed: .*could not be opened again: Failed to get a WebGPU adapter/;
  const after = await describe('llama');
  assert.deepEqual([after.status, after.device], ['Healthy', 'cpu']);
  assert.match(after.deviceReason, reason);
  const { model } = await rpc('loramux.v1.ModelService/GetModel', { name: 'llama' });
  assert.deepEqual(model!.description.device, 'cpu');
  assert.match(model!.description.deviceReason, reason);
  assert.deepEqual(await metric('engine_device'), ['loramux_engine_device{model="llama",device="cpu"} 1']);
  assert.deepEqual(await metric('engine_up'), ['loramux_engine_up{model="llama"} 1']);
  assert.equal((await fetch(`${url}/ping`)).status, 200);
  assert.equal((await rpc('grpc.health.v1.Health/Check', { service: 'llama' })).status, 'SERVING');
  const logged = output()
    .split('\n')
    .filter((line) => line.startsWith('{'));
  const warned = lines(logged.join('\n')).filter(({ device, level }) => device === 'cpu' && level === 'warn');
  assert.deepEqual(
    warned.map(({ model: name, msg }) => [name, msg]),
    [['llama', 'the device failed; the model goes on elsewhere']],
  );

  // What is loaded now is served like the rest.
  assert.equal(
    (await fetch(`${url}/adapters?name=later&src=${GOLDEN}adapters/llama/all-r8`, { method: 'POST' })).status,
    200,
  );
  assert.equal(await stream('later'), wanted[0]);
  assert.equal((await fetch(`${url}/models?url=${GOLDEN}models/qwen3`, { method: 'POST' })).status, 200);
  const other = await describe('qwen3');
  assert.equal(other.device, 'cpu');
  assert.match(other.deviceReason, /^another model has left the device: found renderD128/);
});

test('a model in int4, which the processor cannot take over, ends and says so', { skip: noGpu }, async (t) => {
  const { url, lose } = await start(t, ['--dtype', 'int4', '--log-level', 'fatal']);
  const ask = () => postJson(`${url}/invocations`, { inputs: 'hello', adapters: 'all-r8' });
  assert.equal((await ask()).status, 200);
  lose();
  const failed = await ask();
  const { reason, message } = (await failed.json()) as { reason: string; message: string };
  assert.deepEqual([failed.status, reason], [503, 'ENGINE_FAILED']);
  assert.match(message, /could not be opened again: .*; and the model cannot go on elsewhere: dtype int4 is for GPUs/);
  assert.notEqual((await fetch(`${url}/ping`)).status, 200);
});
