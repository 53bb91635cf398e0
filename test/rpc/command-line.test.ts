import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { findProgram } from './programs.js';
import { startServer, type TestServer } from './start-server.js';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../..', import.meta.url));

const grpcurl = findProgram('grpcurl');
const curl = findProgram('curl');
const ask = '{"inputs":[{"text":"How is the weather","adapter":"pirate"}],"parameters":{"max_new_tokens":3}}';

describe('clients on the command line, without schema files', () => {
  let server: TestServer;
  before(async () => {
    server = await startServer();
  });
  after(() => server.close());
  const host = (): string => `${server.host}:${server.port}`;

  describe('grpcurl', { skip: grpcurl === undefined && 'grpcurl is not installed' }, () => {
    const call = async (...args: string[]): Promise<string> =>
      (await run(grpcurl!, ['-plaintext', ...args])).stdout.trim();

    it('lists services and methods', async () => {
      assert.match(await call(host(), 'list'), /^loramux\.v1\.InferenceService$/m);
      assert.match(await call(host(), 'list', 'loramux.v1.AdapterService'), /CreateAdapter$/m);
    });

    it('describes messages with comments and rules', async () => {
      const text = await call(host(), 'describe', 'loramux.v1.WeightedAdapter');
      assert.match(text, /\/\/ Name of a registered adapter\./);
      assert.match(text, /min_len: 1/);
    });

    it('calls, streams, and shows the details of errors', async () => {
      const answer = JSON.parse(await call('-d', ask, host(), 'loramux.v1.InferenceService/Predict'));
      assert.equal(answer.results[0].text, '[pirate] How is');
      const stream = await call('-d', ask, host(), 'loramux.v1.InferenceService/StreamPredict');
      assert.equal(stream.match(/"delta"/g)?.length, 3);
      assert.equal(stream.match(/"final"/g)?.length, 1);
      const wrong = ask.replace('pirate', 'pirat');
      await assert.rejects(call('-d', wrong, host(), 'loramux.v1.InferenceService/Predict'), (error: Error) => {
        const { stderr } = error as Error & { stderr: string };
        assert.match(stderr, /Code: NotFound/);
        assert.match(stderr, /"reason": "ADAPTER_NOT_REGISTERED"/);
        return true;
      });
      assert.match(await call(host(), 'grpc.health.v1.Health/Check'), /"SERVING"/);
    });
  });

  describe('buf curl', () => {
    const buf = join(root, 'node_modules', '.bin', 'buf');
    for (const protocol of ['grpc', 'grpcweb', 'connect']) {
      it(`calls and streams over ${protocol}`, async () => {
        const call = (method: string) =>
          run(buf, [
            ...['curl', '--protocol', protocol, '--http2-prior-knowledge', '-d', ask],
            `${server.baseUrl}/loramux.v1.InferenceService/${method}`,
          ]);
        assert.equal(JSON.parse((await call('Predict')).stdout).results[0].text, '[pirate] How is');
        assert.match((await call('StreamPredict')).stdout, /"text":\s*"\[pirate\] How is"/);
      });
    }
  });

  describe('curl', { skip: curl === undefined && 'curl is not installed' }, () => {
    for (const version of ['--http1.1', '--http2-prior-knowledge', '--http2']) {
      it(`posts JSON with ${version}`, async () => {
        const { stdout } = await run(curl!, [
          ...['-sS', version, '-H', 'content-type: application/json', '-d', ask],
          `${server.baseUrl}/loramux.v1.InferenceService/Predict`,
        ]);
        const answer = JSON.parse(stdout);
        assert.equal(answer.results[0].inputIndex, 0, 'zeros are written out');
        assert.equal(answer.results[0].receipt.adapters[0].name, 'pirate');
      });
    }

    it('reads with GET', async () => {
      const { stdout } = await run(curl!, [
        ...['-sS', '-G', '--data-urlencode', 'message={}', '-d', 'encoding=json', '-d', 'connect=v1'],
        `${server.baseUrl}/loramux.v1.AdapterService/ListAdapters`,
      ]);
      assert.equal(JSON.parse(stdout).adapters[0].name, 'french');
    });
  });
});
