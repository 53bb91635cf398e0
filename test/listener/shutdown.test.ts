import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect as connectH2 } from 'node:http2';
import { describe, it } from 'node:test';
import { Code, ConnectError, createClient } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport } from '@connectrpc/connect-node';
import { ServerReflection } from '../../gen/grpc/reflection/v1/reflection_pb.js';
import { InferenceService } from '../../gen/loramux/v1/inference_pb.js';
import { AppError } from '../../server/errors.js';
import { eventually, startServer } from '../rpc/start-server.js';
import { openRaw } from './raw-client.js';

const transports = {
  'Connect over HTTP/1.1': (baseUrl: string) => createConnectTransport({ baseUrl, httpVersion: '1.1' }),
  'Connect over HTTP/2': (baseUrl: string) => createConnectTransport({ baseUrl, httpVersion: '2' }),
  gRPC: (baseUrl: string) => createGrpcTransport({ baseUrl }),
} as const;

describe('shutdown', () => {
  it('lets running streams finish, closes what is idle, and refuses new connections', async () => {
    const server = await startServer();
    const idleH1 = await openRaw(server.port);
    idleH1.socket.write('GET /x HTTP/1.1\r\nHost: a\r\n\r\n');
    await once(idleH1.socket, 'data');
    const silent = await openRaw(server.port);
    const idleH2 = connectH2(server.baseUrl);
    await once(idleH2, 'remoteSettings');
    const idleH2Closed = once(idleH2, 'close');

    const counts = Object.values(transports).map(async (connect) => {
      let count = 0;
      const client = createClient(InferenceService, connect(server.baseUrl));
      const input = { prompt: { case: 'text' as const, value: 'a' } };
      for await (const _ of client.streamPredict({ inputs: [input], parameters: { maxNewTokens: 60 } })) count++;
      return count;
    });
    await eventually(() => server.services.activeRows() === counts.length, 'all streams run');
    const closed = server.close(20_000, () => assert.fail('nothing had to be cut'));
    await assert.rejects(openRaw(server.port), { code: 'ECONNREFUSED' });
    await Promise.all([idleH1.closed, silent.closed, idleH2Closed]);
    assert.deepEqual(await Promise.all(counts), [61, 61, 61]);
    await closed;
    assert.deepEqual(server.faults, []);
  });

  it('tells streams why they end when the grace time is over', async () => {
    const cut = new AbortController();
    const server = await startServer({ shutdownSignal: cut.signal });
    const reasons = Object.values(transports).map(async (connect) => {
      const client = createClient(InferenceService, connect(server.baseUrl));
      const input = { prompt: { case: 'text' as const, value: 'a' } };
      try {
        for await (const _ of client.streamPredict({ inputs: [input], parameters: { maxNewTokens: 100_000 } }));
      } catch (error) {
        return ConnectError.from(error).code;
      }
      return undefined;
    });
    await eventually(() => server.services.activeRows() === reasons.length, 'all streams run');
    await server.close(50, () => cut.abort(new AppError('SHUTTING_DOWN', 'the server is shutting down')));
    assert.deepEqual(await Promise.all(reasons), [Code.Unavailable, Code.Unavailable, Code.Unavailable]);
    assert.equal(server.services.activeRows(), 0);
  });

  it('answers requests that had arrived and were not read yet', async () => {
    const server = await startServer();
    const ask =
      'POST /grpc.health.v1.Health/Check HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}';
    const kept = await openRaw(server.port);
    kept.socket.write(ask);
    await once(kept.socket, 'data');
    const fresh = await openRaw(server.port);
    // The server has taken the connection, and read nothing of it.
    await new Promise((resolve) => setTimeout(resolve, 50));
    for (const { socket } of [kept, fresh]) socket.write(ask);
    await server.close(20_000, () => assert.fail('nothing had to be cut'));
    await Promise.all([kept.closed, fresh.closed]);
    assert.equal(kept.received().match(/ 200 OK/g)?.length, 2);
    assert.equal(fresh.received().match(/ 200 OK/g)?.length, 1);
  });

  it('cuts what does not end by itself', async () => {
    const server = await startServer();
    const client = createClient(InferenceService, createGrpcTransport({ baseUrl: server.baseUrl }));
    const input = { prompt: { case: 'text' as const, value: 'a' } };
    const failed = (async () => {
      for await (const _ of client.streamPredict({ inputs: [input], parameters: { maxNewTokens: 100_000 } }));
    })().catch((error: unknown) => error);
    const half = await openRaw(server.port);
    half.socket.write('POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n');
    await eventually(() => server.services.activeRows() === 1, 'the stream runs');
    await server.close(0);
    await half.closed;
    assert.ok((await failed) instanceof Error);
    await eventually(() => server.services.activeRows() === 0, 'the row is freed');
  });

  it('does not wait for a reflection stream that stays open', async () => {
    const server = await startServer();
    const client = createClient(ServerReflection, createGrpcTransport({ baseUrl: server.baseUrl }));
    let answered = 0;
    const stream = client.serverReflectionInfo(
      (async function* () {
        yield { messageRequest: { case: 'listServices' as const, value: '' } };
        await new Promise(() => {});
      })(),
    );
    const ended = (async () => {
      for await (const _ of stream) {
        answered++;
        server.health.drain();
      }
    })();
    await ended;
    assert.equal(answered, 1);
    await server.close(20_000, () => assert.fail('the stream had to be cut'));
  });

  it('closes a server that never listened', async () => {
    const { createListener } = await import('../../server/listener/listener.js');
    await createListener({ handler: () => {} }).close(10);
  });
});
