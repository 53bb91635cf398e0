/** Every call has one record, whatever ends it: the log and the metrics are made of them. */
import assert from 'node:assert/strict';
import http from 'node:http';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient, type Transport } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from '@connectrpc/connect-node';
import { InferenceService } from '../../gen/loramux/v1/inference_pb.js';
import { eventually, startServer, type TestServer } from './start-server.js';

const UNARY = 'loramux.v1.InferenceService/Predict';
const STREAM = 'loramux.v1.InferenceService/StreamPredict';
const request = { inputs: [{ prompt: { case: 'text' as const, value: 'a' } }], parameters: { maxNewTokens: 500 } };

describe('records of calls', () => {
  let server: TestServer;
  before(async () => {
    server = await startServer({ tokenMs: 5 });
  });
  after(() => server.close());

  /** What was recorded since, once nothing is added any more. */
  const recorded = async () => {
    await eventually(() => server.records.length > 0, 'a record');
    await sleep(50);
    return server.records.splice(0).map(({ method, code }) => [method, code]);
  };

  const transports: [string, (baseUrl: string) => Transport][] = [
    ['gRPC', (baseUrl) => createGrpcTransport({ baseUrl })],
    ['Connect over HTTP/2', (baseUrl) => createConnectTransport({ baseUrl, httpVersion: '2' })],
    ['Connect over HTTP/1.1', (baseUrl) => createConnectTransport({ baseUrl, httpVersion: '1.1' })],
    ['gRPC-Web over HTTP/1.1', (baseUrl) => createGrpcWebTransport({ baseUrl, httpVersion: '1.1' })],
  ];
  for (const [name, transport] of transports) {
    it(`${name}: one of a stream that its client cancels, at any moment`, async () => {
      const client = createClient(InferenceService, transport(server.baseUrl));
      for (const wanted of [1, 2, 3, 4, 5]) {
        const abort = new AbortController();
        let events = 0;
        await assert.rejects(async () => {
          for await (const _ of client.streamPredict(request, { signal: abort.signal })) {
            if (++events === wanted) setTimeout(() => abort.abort(), wanted);
          }
        });
        assert.deepEqual(await recorded(), [[STREAM, 'canceled']]);
      }
    });
  }

  it('one of a call whose deadline passes before its message is there', async () => {
    const headers = { 'content-type': 'application/json', 'connect-timeout-ms': '20' };
    const call = http.request(`${server.baseUrl}/${UNARY}`, { method: 'POST', headers });
    const answered = new Promise<http.IncomingMessage>((resolve, reject) => {
      call.on('response', resolve).on('error', reject);
    });
    call.write('{"inputs":');
    await sleep(100);
    call.end('[{"text":"a"}]}');
    assert.equal((await answered).resume().statusCode, 504);
    assert.deepEqual(await recorded(), [[UNARY, 'deadline_exceeded']]);
  });

  it('one of a call that is refused by its method or its content type', async () => {
    assert.equal((await fetch(`${server.baseUrl}/${UNARY}`, { method: 'PUT' })).status, 405);
    assert.deepEqual(await recorded(), [[UNARY, 'unimplemented']]);
    assert.equal((await fetch(`${server.baseUrl}/${UNARY}`, { method: 'POST', body: 'a' })).status, 415);
    assert.deepEqual(await recorded(), [[UNARY, 'invalid_argument']]);
  });
});
