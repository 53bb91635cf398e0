/** RPC has no form for what handlers answer: it refuses what they answer for, says where to ask, and never goes round them. */
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Code, ConnectError, createClient } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from '@connectrpc/connect-node';
import { ErrorInfoSchema } from '../../gen/google/rpc/error_details_pb.js';
import { InferenceService } from '../../gen/loramux/v1/inference_pb.js';
import { startServer } from '../rest/served.js';

const DEMO = fileURLToPath(new URL('../../models/demo', import.meta.url));
const HANDLER = `export const handle = (input) => ({ handled: input.getAsJson().inputs });`;

const transports = {
  grpc: (baseUrl: string) => createGrpcTransport({ baseUrl }),
  'grpc-web': (baseUrl: string) => createGrpcWebTransport({ baseUrl, httpVersion: '1.1' }),
  connect: (baseUrl: string) => createConnectTransport({ baseUrl, httpVersion: '1.1' }),
};

test('what a handler answers for is refused, with the place where it is asked', async (t) => {
  const dir = mkdtempSync(path.join(tmpdir(), 'loramux-rpc-handlers-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const folder = path.join(dir, 'adapters', 'loud one');
  cpSync(path.join(DEMO, 'adapters', 'pirate'), folder, { recursive: true });
  writeFileSync(path.join(folder, 'handler.mjs'), HANDLER);
  const custom = path.join(dir, 'custom');
  mkdirSync(custom);
  writeFileSync(path.join(custom, 'handler.mjs'), HANDLER);
  writeFileSync(path.join(custom, 'serving.properties'), `option.entryPoint=handler.mjs\noption.model_id=${DEMO}\n`);
  const url = await startServer(t, [
    ...['--log-level', 'error', '--model', `demo=${DEMO}`, '--model', `custom=${custom}`],
    ...['--allow-path', dir, '--adapter-handlers', dir],
  ]);
  const post = async (route: string, body?: object, method = 'POST') => {
    const init = {
      method,
      headers: { 'content-type': 'application/json' },
      ...(body && { body: JSON.stringify(body) }),
    };
    const answer = await fetch(url + route, init);
    return { status: answer.status, json: (await answer.json()) as unknown };
  };
  const fields = new URLSearchParams({ name: 'loud one', src: folder });
  assert.equal((await post(`/models/demo/adapters?${fields}`)).status, 200);
  const alias = { targets: [{ adapter: 'loud one' }] };
  assert.equal((await post('/models/demo/aliases/voice', alias, 'PUT')).status, 200);

  const input = (adapter: string) => ({
    prompt: { case: 'text' as const, value: 'a' },
    adapters: { case: 'adapter' as const, value: adapter },
  });
  const parameters = { maxNewTokens: 2 };
  const refused = [
    { request: { model: 'demo', inputs: [input('loud one')], parameters }, adapter: 'loud one' },
    { request: { model: 'demo', inputs: [input('pirate'), input('loud one')], parameters }, adapter: 'loud one' },
    { request: { model: 'demo', inputs: [input('voice')], parameters }, adapter: 'loud one' },
    { request: { model: 'custom', inputs: [input('')], parameters }, adapter: undefined },
    { request: { model: 'custom', inputs: [input('pirate')], parameters }, adapter: undefined },
  ];
  for (const [name, transportTo] of Object.entries(transports)) {
    const client = createClient(InferenceService, transportTo(url));
    for (const { request, adapter } of refused) {
      const whole = () => client.predict(request);
      const streamed = async () => {
        for await (const _ of client.streamPredict(request)) assert.fail('nothing is answered');
      };
      for (const ask of [whole, streamed]) {
        const error = await ask().then(
          () => assert.fail(`${name}: it was answered`),
          (thrown: unknown) => ConnectError.from(thrown),
        );
        assert.equal(error.code, Code.Unimplemented);
        const { model } = request;
        const [info] = error.findDetails(ErrorInfoSchema);
        assert.equal(info!.reason, 'UNIMPLEMENTED');
        const invoke = `/models/${model}/invoke${adapter === undefined ? '' : '?adapter=loud%20one'}`;
        const { request_id, ...metadata } = info!.metadata;
        assert.ok(request_id);
        assert.deepEqual(metadata, { model, invoke, ...(adapter !== undefined && { adapter }) });
        assert.ok(error.message.includes(`POST ${invoke}`), error.message);
        const asked = await post(metadata.invoke!, { inputs: 'a' });
        assert.deepEqual(asked, { status: 200, json: { handled: 'a' } }, 'there it is answered');
      }
    }
    const others = await client.predict({ model: 'demo', inputs: [input('pirate'), input('')], parameters });
    assert.equal(others.results.length, 2, 'the others are answered as ever');
  }
});
