/** Which weights answered is told for what handlers generate, too, by the server and by nobody else. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { postForReceipt } from '../rest/http.js';
import { startServer } from '../rest/served.js';

const DEMO = fileURLToPath(new URL('../../models/demo', import.meta.url));

const CODE = `
import { defineHandler, output } from '@loramux/sdk/handler';
export default defineHandler({
  async handle(input, context) {
    const { adapters, stream, claim } = input.getAsJson();
    if (claim) return output({ properties: { 'X-Loramux-Adapter': claim }, body: 'mine' });
    const request = (adapter) => ({ inputs: 'Hello', parameters: { maxNewTokens: 4 }, ...(adapter && { adapter }) });
    if (!stream) {
      let text = '';
      for (const adapter of adapters) text += (await context.generate(request(adapter)))[0].text;
      return text;
    }
    return (async function* () {
      for (const adapter of adapters)
        for await (const event of context.stream(request(adapter))) if (event.type === 'delta') yield event.text;
    })();
  },
});`;

test('answers of handlers say what they were generated with; a handler cannot say it', async (t) => {
  const dir = mkdtempSync(path.join(tmpdir(), 'loramux-handler-receipts-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  for (const file of ['config.json', 'generation_config.json', 'model.safetensors', 'tokenizer.json', 'adapters'])
    symlinkSync(path.join(DEMO, file), path.join(dir, file));
  writeFileSync(path.join(dir, 'serving.properties'), 'option.entryPoint=handler.mjs\n');
  writeFileSync(path.join(dir, 'handler.mjs'), CODE);
  const url = `${await startServer(t, ['--log-level', 'error', '--model', `demo=${dir}`, '--allow-path', DEMO])}/invocations`;

  const both = ['shout', undefined, 'pirate'];
  const part = (name: string) => `${name}@[0-9a-f]{16}`;
  const all = new RegExp(`^${part('shout')}, base, ${part('pirate')}$`);
  const whole = await postForReceipt(url, { adapters: both });
  assert.equal(whole.status, 200, whole.text);
  assert.match(whole.header ?? '', all);
  const streamed = await postForReceipt(url, { adapters: both, stream: true });
  assert.equal(streamed.header, undefined);
  assert.equal(streamed.trailer, whole.header);
  assert.equal(streamed.text, whole.text);

  const nothing = await postForReceipt(url, { adapters: [] });
  assert.deepEqual([nothing.status, nothing.header], [200, undefined]);
  const claimed = await postForReceipt(url, { claim: 'shout@0123456789abcdef' });
  assert.equal(claimed.status, 424, claimed.text);
  assert.match(claimed.text, /the server says itself which weights answered/);
  assert.equal(claimed.header, undefined);
});
