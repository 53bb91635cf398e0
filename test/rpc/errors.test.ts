import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { durationMs } from '@bufbuild/protobuf/wkt';
import { Code, ConnectError, createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from '../../gen/google/rpc/error_details_pb.js';
import { InferenceService } from '../../gen/loramux/v1/inference_pb.js';
import { AppError, ERRORS, type ErrorReason } from '../../server/errors.js';
import { startServer, type TestServer } from './start-server.js';

const request = { inputs: [{ prompt: { case: 'text' as const, value: 'a' } }], parameters: { maxNewTokens: 3 } };

describe('errors of the RPC surface', () => {
  let server: TestServer;
  let client: ReturnType<typeof createClient<typeof InferenceService>>;
  before(async () => {
    server = await startServer({ readMaxBytes: 10_000 });
    client = createClient(InferenceService, createGrpcTransport({ baseUrl: server.baseUrl }));
  });
  after(() => server.close());

  const failure = async (error: Error): Promise<ConnectError> => {
    server.services.fail = error;
    try {
      await client.predict(request);
    } catch (thrown) {
      return ConnectError.from(thrown);
    } finally {
      server.services.fail = undefined;
    }
    throw new Error('the call did not fail');
  };

  it('gives every reason of the table its code and its ErrorInfo', async () => {
    for (const [reason, { code }] of Object.entries(ERRORS)) {
      const error = await failure(new AppError(reason as ErrorReason, 'what happened', { metadata: { key: 'value' } }));
      const name = Code[error.code].replace(/(?!^)([A-Z])/g, '_$1').toLowerCase();
      assert.equal(name, code, reason);
      const info = error.findDetails(ErrorInfoSchema)[0];
      assert.equal(info?.reason, reason);
      assert.equal(info?.metadata.key, 'value');
      if (reason !== 'INTERNAL') assert.equal(error.rawMessage, 'what happened');
    }
  });

  it('says when to retry and which fields are wrong', async () => {
    const error = await failure(
      new AppError('QUEUE_FULL', 'full', { retryAfterMs: 1500, violations: [{ field: 'a.b', description: 'is odd' }] }),
    );
    assert.equal(durationMs(error.findDetails(RetryInfoSchema)[0]!.retryDelay!), 1500);
    const violation = error.findDetails(BadRequestSchema)[0]!.fieldViolations[0]!;
    assert.deepEqual([violation.field, violation.description], ['a.b', 'is odd']);
    assert.equal(error.metadata.get('retry-after'), '2');
  });

  it('hides what an unexpected error says, and logs it under the request id that the client sees', async () => {
    const error = await failure(new Error('a secret'));
    assert.equal(error.code, Code.Internal);
    assert.doesNotMatch(error.rawMessage, /secret/);
    const record = server.records.at(-1)!;
    assert.equal((record.error as Error).message, 'a secret');
    assert.ok(error.rawMessage.includes(record.requestId));
    assert.equal(record.method, 'loramux.v1.InferenceService/Predict');
    assert.equal(record.code, 'internal');
    assert.equal(record.reason, 'INTERNAL');
  });

  it('ends a stream that breaks in the middle with an error after what came before', async () => {
    server.services.failAfterTokens = 2;
    const texts: string[] = [];
    try {
      for await (const { event } of client.streamPredict(request)) {
        if (event.case === 'delta') texts.push(event.value.text);
      }
      assert.fail('the stream ended well');
    } catch (thrown) {
      const error = ConnectError.from(thrown);
      assert.equal(error.code, Code.Internal);
      assert.equal(error.findDetails(ErrorInfoSchema)[0]?.reason, 'INTERNAL');
      assert.doesNotMatch(error.rawMessage, /secret/);
    } finally {
      server.services.failAfterTokens = undefined;
    }
    assert.deepEqual(texts, ['[base]', ' a']);
  });

  it('refuses a message larger than the limit', async () => {
    const large = { inputs: [{ prompt: { case: 'text' as const, value: 'a'.repeat(20_000) } }] };
    await assert.rejects(client.predict(large), (error: ConnectError) => error.code === Code.ResourceExhausted);
  });

  const post = (body: string, headers: Record<string, string> = {}): Promise<Response> =>
    fetch(`${server.baseUrl}/loramux.v1.InferenceService/Predict`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body,
    });

  it('refuses a misspelled field rather than answering from another adapter', async () => {
    const response = await post('{"inputs":[{"text":"a","adaptor":"pirate"}]}');
    assert.equal(response.status, 400);
    const error = (await response.json()) as { code: string; message: string };
    assert.equal(error.code, 'invalid_argument');
    assert.match(error.message, /adaptor/);
  });

  it('answers malformed JSON with 400 and a request id', async () => {
    const response = await post('{"inputs":[', { 'x-request-id': 'bad\u00ffid' });
    assert.equal(response.status, 400);
    assert.match(response.headers.get('x-request-id') ?? '', /^[0-9a-f-]{36}$/);
  });

  it('lists at most eight broken fields and counts the rest', async () => {
    const response = await post(JSON.stringify({ inputs: Array.from({ length: 20 }, () => ({})) }));
    const error = (await response.json()) as { message: string };
    assert.match(error.message, /inputs\[7\].*; and 12 more$/);
  });
});
