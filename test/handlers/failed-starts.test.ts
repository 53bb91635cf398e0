/** A handler whose thread cannot be started anew: the log says why, and it comes back with its file. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { CALL, input, started } from './started-host.js';

const GOOD = `
  export const registerAdapter = (input) => { if (input.getProperty('name') === 'fr') throw new Error('not this one'); };
  export async function handle(input) { if (input.getAsString() === 'exit') process.exit(0); return 'fine'; }`;

test('why a handler cannot be started anew is told in the log, once for many requests', async (t) => {
  const modelDir = mkdtempSync(path.join(tmpdir(), 'loramux-starts-'));
  t.after(() => rmSync(modelDir, { recursive: true, force: true }));
  const module = path.join(modelDir, 'handler.mjs');
  const lines: string[] = [];
  const log = {
    info: () => {},
    warn: (fields: object, text: string) => lines.push(`${JSON.stringify(fields)} ${text}`),
  };
  const host = await started(t, GOOD, { modelDir, log });
  rmSync(module);
  for (const text of ['exit', 'x', 'x', 'x']) {
    await assert.rejects(host.call('handle', input(text), CALL), { reason: 'HANDLER_CRASHED' });
  }
  const told = lines.filter((line) => line.includes('could not be started'));
  assert.equal(told.length, 1, lines.join('\n'));
  assert.match(told[0]!, /no such file.*handler\.mjs/);
  assert.doesNotMatch(told[0]!, /worker/, 'where the server itself lies says nothing');

  writeFileSync(module, GOOD);
  assert.equal((await host.call('handle', input('x'), CALL)).body, 'fine');
  assert.equal(lines.length, 2, lines.join('\n'));
  writeFileSync(module, 'export const other = 1;');
  for (const text of ['exit', 'x', 'x']) await assert.rejects(host.call('handle', input(text), CALL));
  assert.equal(lines.filter((line) => line.includes('exports no function handle')).length, 1, lines.join('\n'));
});

test('an adapter that a new thread refuses is named in the log', async (t) => {
  const lines: string[] = [];
  const registrations = () => [{ properties: [['name', 'fr'] as const], content: [] }];
  await started(t, GOOD, { registrations, log: { info: () => {}, warn: (_, text) => lines.push(text) } });
  assert.deepEqual(lines, ['the handler refused the adapter "fr" that it had']);
});
