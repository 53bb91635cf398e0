/** Streams of handlers that fail after they have begun, or that are sent where no trailer can be. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { openRaw } from '../listener/raw-client.js';
import { startServer } from '../rest/served.js';

/** Starts a server whose only model is this handler. @returns its URL */
function serve(t: TestContext, handler: string): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'loramux-failing-'));
  t.after(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, 'serving.properties'), 'option.entryPoint=handler.mjs\n');
  writeFileSync(join(folder, 'handler.mjs'), handler);
  return startServer(t, ['--model', folder, '--log-level', 'silent']);
}

test('a failure is a line of its own, whatever was sent before it', async (t) => {
  const url = await serve(
    t,
    `import { output } from '@loramux/sdk/handler';
export const handle = (input) => {
  const { type, pieces } = input.getAsJson();
  const body = (async function* () {
    for (const piece of pieces) yield piece;
    throw new Error('in the middle');
  })();
  return output({ properties: { 'content-type': type }, body });
};
`,
  );
  const answer = async (type: string, pieces: unknown[]) => {
    const response = await fetch(`${url}/invocations`, { method: 'POST', body: JSON.stringify({ type, pieces }) });
    assert.equal(response.status, 200);
    return response.text();
  };
  const failure = JSON.stringify({ code: 424, error: 'in the middle', reason: 'HANDLER_FAILED' });
  const lines = 'application/jsonlines';
  assert.equal(await answer(lines, ['half a']), `half a\n${failure}\n`);
  assert.equal(await answer(lines, ['whole\n']), `whole\n${failure}\n`);
  assert.equal(await answer(lines, ['half a', '']), `half a\n${failure}\n`);
  assert.equal(await answer(lines, [{ a: 1 }]), `{"a":1}\n${failure}\n`);
  assert.equal(await answer(lines, ['é']), `é\n${failure}\n`);
  assert.equal(await answer('text/event-stream', ['data: half']), `data: half\n\ndata: ${failure}\n\n`);
  assert.equal(await answer('text/event-stream', ['data: whole\n\n']), `data: whole\n\ndata: ${failure}\n\n`);
});

test('a stream ends where its answer can have no trailer: over HTTP/1.0, and without a body', async (t) => {
  const url = await serve(
    t,
    `import { output } from '@loramux/sdk/handler';
export const handle = (input) => {
  const { code } = input.getAsJson();
  return output({ code, body: (async function* () { yield 'one '; yield 'two'; })() });
};
`,
  );
  const body = JSON.stringify({ code: 200 });
  const { socket, received, closed } = await openRaw(Number(new URL(url).port));
  socket.write(`POST /invocations HTTP/1.0\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
  await closed;
  assert.match(received(), /^HTTP\/1\.\d 200 .*\r\n\r\none two$/s);
  const empty = await fetch(`${url}/invocations`, { method: 'POST', body: JSON.stringify({ code: 204 }) });
  assert.deepEqual([empty.status, await empty.text()], [204, '']);
});
