/** Runs what README shows: every block marked with `<!-- run -->`, against a server of its own. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { startServer } from '../rest/served.js';

const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
const blocks = [...readme.matchAll(/<!-- run -->\n```sh\n([\s\S]*?)```/g)].map((match) => match[1]!);
const run = promisify(execFile);

/** What must stand in the output of the block that contains the key. */
const EXPECTED: Readonly<Record<string, RegExp>> = {
  '"french", ""': /^\[\{"generated_text":".+"\},\{"generated_text":".+"\},\{"generated_text":".+"\}\]/,
  '"stream": true': /"token":\{"id":\d+,"text":"[^a-z]*","log_prob":[\s\S]*"generated_text":"[^a-z]+"/,
  'InferenceService/Predict': /"digest": "[0-9a-f]{64}"/,
  '"weight": 0.5': /"weight":0.5[\s\S]*"weight":0.5/,
  'name=captain': /captain registered[\s\S]*"name": ?"captain"[\s\S]*captain unregistered/,
  'name=mate': /mate updated[\s\S]*"versions":\[\{[\s\S]*"share":9[\s\S]*"action":"alias"/,
  '/metrics': /Healthy[\s\S]*loramux_adapters[\s\S]*SERVING/,
};

test('every command of the README does what it says', async (t) => {
  const grpcurl = await findGrpcurl();
  const url = await startServer(t, ['--log-level', 'error']);
  assert.equal(blocks.length, Object.keys(EXPECTED).length);
  for (const block of blocks) {
    const title = block.split('\n')[0]!;
    if (block.includes('grpcurl') && grpcurl === undefined) {
      await t.test(title, { skip: 'grpcurl is not installed' });
      continue;
    }
    await t.test(title, async () => {
      const script = block.replaceAll('127.0.0.1:8080', new URL(url).host).replaceAll('grpcurl ', `${grpcurl} `);
      const { stdout } = await run('bash', ['-euo', 'pipefail', '-c', script]);
      const [, wanted] = Object.entries(EXPECTED).find(([key]) => block.includes(key))!;
      assert.match(stdout, wanted);
    });
  }
});

async function findGrpcurl(): Promise<string | undefined> {
  const places = [
    'grpcurl',
    ...(await run('go', ['env', 'GOPATH']).then(
      ({ stdout }) => [`${stdout.trim()}/bin/grpcurl`],
      () => [],
    )),
  ];
  for (const place of places)
    if (
      await run(place, ['-version']).then(
        () => true,
        () => false,
      )
    )
      return place;
  return undefined;
}
