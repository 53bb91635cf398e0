/** Generations that a handler has running side by side, and those that it does not wait for. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { spawnServer } from '../rest/served.js';

const DEMO = fileURLToPath(new URL('../../models/demo', import.meta.url));

const CODE = `
let calls = 0;
export async function handle(input, context) {
  const { act, adapter } = input.getAsJson();
  calls++;
  const ask = (more) => context.generate({ inputs: 'Hello', parameters: { maxNewTokens: 4, ...more }, adapter });
  if (act === 'count') return String(calls);
  if (act === 'wait') await new Promise((resolve) => { context.signal.onabort = resolve; setTimeout(resolve, 3000); });
  if (act === 'leave') ask({ maxNewTokens: 800, ignoreEos: true });
  if (act === 'late') {
    const answer = ask();
    await new Promise((resolve) => setTimeout(resolve, 200));
    return (await answer)[0].text;
  }
  if (act === 'many') return String((await Promise.all(Array.from({ length: 24 }, () => ask()))).length);
  return 'done';
}`;

const dir = mkdtempSync(path.join(tmpdir(), 'loramux-handler-side-'));
let server: Awaited<ReturnType<typeof spawnServer>>;

before(async () => {
  for (const file of ['config.json', 'generation_config.json', 'model.safetensors', 'tokenizer.json', 'adapters'])
    symlinkSync(path.join(DEMO, file), path.join(dir, file));
  writeFileSync(path.join(dir, 'serving.properties'), 'option.entryPoint=handler.mjs\n');
  writeFileSync(path.join(dir, 'handler.mjs'), CODE);
  server = await spawnServer(['--log-level', 'warn', '--model', `demo=${dir}`, '--allow-path', DEMO]);
});

after(async () => {
  await server.stop();
  rmSync(dir, { recursive: true, force: true });
});

async function ask(body: object, signal?: AbortSignal): Promise<{ status: number; text: string }> {
  const answer = await fetch(`${server.url}/invocations`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
    ...(signal && { signal }),
  });
  return { status: answer.status, text: await answer.text() };
}

test('a generation that a handler does not wait for ends with its call, and the calls of others go on', async () => {
  const other = ask({ act: 'wait' });
  assert.deepEqual(await ask({ act: 'leave' }), { status: 200, text: 'done' });
  const refused = await ask({ act: 'late', adapter: 'nobody' });
  assert.equal(refused.status, 424, refused.text);
  assert.match(refused.text, /nobody.* is not registered/);
  const leaving = new AbortController();
  const left = ask({ act: 'late' }, leaving.signal);
  setTimeout(() => leaving.abort(), 50);
  await assert.rejects(left);
  assert.deepEqual(await other, { status: 200, text: 'done' });
});

test('many generations at once are no leak to warn of', async () => {
  assert.deepEqual(await ask({ act: 'many' }), { status: 200, text: '24' });
  await ask({ act: 'count' });
  assert.doesNotMatch(server.output(), /MaxListeners|leak/);
});
