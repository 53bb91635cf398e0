import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { Code, ConnectError, createClient } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from '@connectrpc/connect-node';
import { InferenceService } from '../../gen/loramux/v1/inference_pb.js';
import { startServer, type TestServer } from './start-server.js';

const request = { inputs: [{ prompt: { case: 'text' as const, value: 'a' } }], parameters: { maxNewTokens: 1 } };

describe('an adapter that a remote call names outside of its message', () => {
  let server: TestServer;
  before(async () => {
    server = await startServer();
  });
  after(() => server.close());

  it('is refused, on every protocol, where the base model would have answered', async () => {
    const { baseUrl } = server;
    for (const transport of [
      createGrpcTransport({ baseUrl }),
      createGrpcWebTransport({ baseUrl, httpVersion: '1.1' }),
      createConnectTransport({ baseUrl, httpVersion: '1.1' }),
    ]) {
      const client = createClient(InferenceService, transport);
      for (const headers of [
        { 'X-Amzn-SageMaker-Adapter-Identifier': 'french' },
        { 'X-Amzn-SageMaker-Custom-Attributes': 'tenant=1; adapter=french' },
        { 'X-Amzn-SageMaker-Custom-Attributes': 'lora_name=french' },
        { 'X-Amzn-SageMaker-Custom-Attributes': 'tenant=1, adapter=french' },
        { 'X-Amzn-SageMaker-Custom-Attributes': 'adapter:french' },
        { 'Adapter-Identifier': 'french' },
        { adapter: 'french' },
        { 'lora-id': 'french' },
        { 'x-loramux-adapter': 'french' },
      ] as Record<string, string>[]) {
        const refusal = (thrown: unknown) => {
          const error = ConnectError.from(thrown);
          assert.match(error.rawMessage, /is no place for an adapter in the (headers|custom attributes)/);
          return error.code === Code.InvalidArgument;
        };
        await assert.rejects(client.predict(request, { headers }), refusal);
        await assert.rejects(async () => {
          for await (const _ of client.streamPredict(request, { headers }));
        }, refusal);
      }
    }
    assert.equal(server.services.requests.length, 0);
  });

  it('is refused in the query', async () => {
    const response = await fetch(`${server.baseUrl}/loramux.v1.InferenceService/Predict?adapter=french`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{"inputs": [{"text": "a"}]}',
    });
    assert.equal(response.status, 400);
    assert.match(((await response.json()) as { message: string }).message, /adapter is no place .* in the query/);
  });

  it('leaves other headers alone', async () => {
    const client = createClient(InferenceService, createGrpcTransport({ baseUrl: server.baseUrl }));
    const headers = { 'x-tenant': 'adapter', 'X-Amzn-SageMaker-Custom-Attributes': 'tenant=adapter' };
    assert.equal((await client.predict(request, { headers })).results.length, 1);
  });
});
