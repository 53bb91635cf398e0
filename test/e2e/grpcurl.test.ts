/**
 * Runs what docs/grpcurl.md shows: every command, in order, against a server of its own, and compares what is printed.
 * With LORAMUX_WRITE_TRANSCRIPTS=1 the page is written anew instead.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { startServer } from '../rest/served.js';
import { findProgram } from '../rpc/programs.js';

const PAGE = fileURLToPath(new URL('../../docs/grpcurl.md', import.meta.url));
const DEMO = fileURLToPath(new URL('../../models/demo', import.meta.url));
const grpcurl = findProgram('grpcurl');

/** A command of the page and what the page says that it prints. */
interface Shown {
  readonly command: string;
  readonly output: string;
}

/** A block begins with `$ `; a command ends with the first line that leaves no quote open and does not end with `\`. */
function commandsOf(block: string): Shown[] {
  return block
    .split(/^\$ /m)
    .slice(1)
    .map((text) => {
      const lines = text.split('\n');
      let length = 1;
      const open = (): boolean => {
        const command = lines.slice(0, length).join('\n');
        return command.endsWith('\\') || (command.match(/'/g)?.length ?? 0) % 2 === 1;
      };
      while (open()) length += 1;
      return { command: lines.slice(0, length).join('\n'), output: lines.slice(length).join('\n').trim() };
    });
}

/** Everything that differs from run to run is replaced by the same value. */
function settled(text: string): string {
  return text
    .replaceAll(DEMO, '/srv/loramux/models/demo')
    .replace(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, '1b4e28ba-2fa1-41d2-883f-0016d3cca427')
    .replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z/g, '2026-01-31T12:00:00.000Z')
    .replace(/("\w+Ms":) +[\d.e-]+/g, '$1 1.5')
    .replace(/("seed":) +"?\d+"?/g, '$1 "42"')
    .replace(/("(?:weightBytes|revision)":) +"\d+"/g, '$1 "1024"')
    .replace(/":[ \t]+/g, '": ')
    .trim();
}

/** What a shell prints, errors too. */
function printed(script: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn('bash', ['-c', `{ ${script}\n} 2>&1`], { stdio: ['ignore', 'pipe', 'inherit'] });
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (data) => {
      output += data;
    });
    child.on('error', reject).on('close', () => resolve(output));
  });
}

const options = { skip: grpcurl === undefined && 'grpcurl is not installed', timeout: 120_000 };
test('docs/grpcurl.md shows what grpcurl prints', options, async (t) => {
  const page = readFileSync(PAGE, 'utf8');
  const blocks = [...page.matchAll(/```console\n([\s\S]*?)```/g)].map((match) => match[1]!);
  assert.ok(blocks.length > 0);
  const { host } = new URL(await startServer(t, ['--log-level', 'error']));
  let written = page;
  for (const block of blocks) {
    const parts: string[] = [];
    for (const { command, output } of commandsOf(block)) {
      const script = command.replaceAll('127.0.0.1:8080', host).replace('grpcurl ', `'${path.resolve(grpcurl!)}' `);
      const actual = settled(await printed(script));
      parts.push(`$ ${command}\n${actual}\n`);
      if (!process.env.LORAMUX_WRITE_TRANSCRIPTS) await t.test(command, () => assert.equal(actual, settled(output)));
    }
    written = written.replace(block, () => parts.join('\n'));
  }
  if (process.env.LORAMUX_WRITE_TRANSCRIPTS) writeFileSync(PAGE, written);
});
