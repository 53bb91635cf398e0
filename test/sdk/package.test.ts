import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { startServer, type TestServer } from '../rpc/start-server.js';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../..', import.meta.url));
const sdk = join(root, 'sdk');
const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');

/** The examples of the README, in order. */
const examples = [...readFileSync(join(sdk, 'README.md'), 'utf8').matchAll(/```js\n([\s\S]*?)```/g)].map((m) => m[1]!);

describe('the packed SDK in a project of its own', () => {
  const project = mkdtempSync(join(tmpdir(), 'loramux-consumer-'));
  let server: TestServer;
  let noRegistry: string | undefined;

  before(async () => {
    server = await startServer();
    await run(process.execPath, [tsc, '-p', join(sdk, 'tsconfig.json')]);
    const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', project], { cwd: sdk });
    const [{ filename }] = JSON.parse(stdout);
    writeFileSync(join(project, 'package.json'), '{"name":"consumer","private":true,"type":"module"}');
    try {
      const flags = ['--no-audit', '--no-fund', '--prefer-offline', '--fetch-retries=1', '--fetch-timeout=20000'];
      await run('npm', ['install', ...flags, `./${filename}`], { cwd: project, timeout: 120_000 });
    } catch (error) {
      const text = String((error as { stderr?: string }).stderr ?? error);
      if (!/ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ECONNRESET|ENETUNREACH|ENOTCACHED|network/i.test(text))
        throw error;
      noRegistry = 'no package registry can be reached, so the dependencies of the package cannot be installed';
    }
  });
  after(async () => {
    await server.close();
    rmSync(project, { recursive: true, force: true });
  });

  const consume = async (name: string, source: string): Promise<string[]> => {
    writeFileSync(join(project, name), source.replaceAll('http://127.0.0.1:8080', server.baseUrl));
    const { stdout } = await run(process.execPath, [name], { cwd: project, timeout: 60_000 });
    return stdout.trim().split('\n');
  };

  it('runs the first example of the README', async (t) => {
    if (noRegistry) return t.skip(noRegistry);
    const lines = await consume('ask.js', examples[0]!);
    assert.match(lines[0]!, /^pirate@[0-9a-f]{12} \[pirate\]/);
    assert.match(lines[1]!, /^pirate@[0-9a-f]{12} \+ french@[0-9a-f]{12} /);
    assert.match(lines[2]!, /^french@[0-9a-f]{12} /);
    assert.match(lines[3]!, /^base \[base\]/);
    assert.ok(lines.includes('length'), 'the finish reason of the stream');
    assert.ok(lines.includes('pirate ready [ 8 ]'));
    assert.match(lines.at(-1)!, /^adapter pirat is not registered.* [0-9a-f-]{36}$/);
  });

  it('runs the example for Node', async (t) => {
    if (noRegistry) return t.skip(noRegistry);
    assert.match((await consume('node.js', examples[1]!)).at(-1)!, /\[base\] How is/);
  });

  it('ends by itself, without close() and after a stream that was left', async (t) => {
    if (noRegistry) return t.skip(noRegistry);
    for (const entry of ['@loramux/sdk', '@loramux/sdk/node']) {
      const lines = await consume(
        'leave.js',
        `import { LoramuxClient } from '${entry}';
         const client = new LoramuxClient({ baseUrl: 'http://127.0.0.1:8080' });
         for await (const text of client.stream('How is the weather').text()) { console.log(text); break; }`,
      );
      assert.deepEqual(lines, ['[base]']);
    }
  });

  it('has types that a strict project accepts, in browsers and on Node', async (t) => {
    if (noRegistry) return t.skip(noRegistry);
    writeFileSync(
      join(project, 'browser.ts'),
      `import { LoramuxClient, type PredictResponse } from '@loramux/sdk';
       const client = new LoramuxClient({ baseUrl: 'http://localhost' });
       export const answer: Promise<PredictResponse> = client.predict({ inputs: ['a', { text: 'b', adapter: null }] });
       // @ts-expect-error an input has one prompt
       client.predict({ inputs: [{ text: 'a', tokenIds: [1] }] });
       // @ts-expect-error there is no such parameter
       client.predict({ inputs: 'a', parameters: { max_new_tokens: 1 } });`,
    );
    writeFileSync(
      join(project, 'node.ts'),
      `import { LoramuxClient } from '@loramux/sdk/node';
       export const text: AsyncIterable<string> = new LoramuxClient({ protocol: 'connect-h1' }).stream('a').text();`,
    );
    const strict = '--noEmit --strict --exactOptionalPropertyTypes --module nodenext --target es2022';
    const check = (file: string, ...flags: string[]) =>
      run(process.execPath, [tsc, ...strict.split(' '), ...flags, file], { cwd: project }).catch((error) =>
        assert.fail(error.stdout),
      );
    await check('browser.ts', '--lib', 'es2022,dom,dom.iterable');
    symlinkSync(join(root, 'node_modules', '@types'), join(project, 'node_modules', '@types'));
    symlinkSync(join(root, 'node_modules', 'undici-types'), join(project, 'node_modules', 'undici-types'));
    // Connect's own declarations need a DOM type that Node's do not have.
    await check('node.ts', '--lib', 'es2022', '--types', 'node', '--skipLibCheck');
  });

  it('packs what it needs and nothing else', async () => {
    const { stdout } = await run('npm', ['pack', '--json', '--dry-run'], { cwd: sdk });
    const paths = (JSON.parse(stdout)[0].files as { path: string }[]).map(({ path }) => path);
    const kinds = new Set(paths.map((path) => path.replace(/^(dist\/(sdk|gen)\/).*\.(d\.ts|js)$/, '$1*.$3')));
    assert.deepEqual(
      [...kinds].sort(),
      ['README.md', 'dist/gen/*.d.ts', 'dist/gen/*.js', 'dist/sdk/*.d.ts', 'dist/sdk/*.js', 'package.json'].sort(),
    );
    assert.ok(!paths.some((path) => path.includes('schema')), 'the schema for the server stays out');
  });
});
