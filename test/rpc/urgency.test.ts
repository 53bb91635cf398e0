/** Priority and deadline of a call reach the service layer. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { Code, ConnectError, createClient } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport } from '@connectrpc/connect-node';
import { InferenceService } from '../../gen/loramux/v1/inference_pb.js';
import { startServer, type TestServer } from './start-server.js';

const request = { inputs: [{ prompt: { case: 'text' as const, value: 'a' } }], parameters: { maxNewTokens: 1 } };

describe('urgency of a call', () => {
  let server: TestServer;
  let client: ReturnType<typeof createClient<typeof InferenceService>>;
  before(async () => {
    server = await startServer();
    client = createClient(InferenceService, createGrpcTransport({ baseUrl: server.baseUrl }));
  });
  after(() => server.close());
  const called = () => server.services.calls.at(-1)!;

  it('is none unless asked for', async () => {
    await client.predict(request);
    assert.equal(called().priority, undefined);
    assert.equal(called().deadline, undefined);
  });

  it('takes the priority of the message, else that of the header', async () => {
    await client.predict({ ...request, priority: 7 }, { headers: { 'x-priority': '3' } });
    assert.equal(called().priority, 7);
    await client.predict(request, { headers: { 'x-priority': '-3' } });
    assert.equal(called().priority, -3);
  });

  it('refuses what is no priority', async () => {
    for (const [message, header] of [
      [{ ...request, priority: 101 }, '0'],
      [request, 'high'],
      [request, '1000'],
    ] as const) {
      const error = await client.predict(message, { headers: { 'x-priority': header } }).then(
        () => undefined,
        (thrown: unknown) => ConnectError.from(thrown),
      );
      assert.equal(error?.code, Code.InvalidArgument, header);
    }
  });

  it('takes the deadline of the call', async () => {
    const now = performance.timeOrigin + performance.now();
    await client.predict(request, { timeoutMs: 50_000 });
    const left = called().deadline! - now;
    assert.ok(left > 0 && left <= 60_000, `${left} ms`);
  });

  it('is not ended by a deadline that is further away than a timer can wait', async () => {
    const connect = createClient(
      InferenceService,
      createConnectTransport({ baseUrl: server.baseUrl, httpVersion: '2' }),
    );
    await client.predict(request, { headers: { 'grpc-timeout': '99999999H' } });
    assert.equal(called().deadline, undefined);
    await connect.predict(request, { headers: { 'connect-timeout-ms': '9999999999' } });
    assert.equal(called().deadline, undefined);
    await client.predict(request, { headers: { 'grpc-timeout': '24H' } });
    assert.ok(called().deadline !== undefined);
  });
});
