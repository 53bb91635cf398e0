import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import { onClientEnded } from '../../server/listener/exchange.js';
import { createListener } from '../../server/listener/listener.js';
import { createRestApp } from '../../server/rest/app.js';
import { connectHandler } from '../../server/rpc/connect-handler.js';
import { type MemoryServices, memoryServices } from '../rest/memory-services.js';
import { eventually } from '../rpc/start-server.js';
import { openRaw } from './raw-client.js';

/** An answer that is not there before the client is gone. */
const long = (stream: boolean) => JSON.stringify({ inputs: 'SLOW@5', stream, parameters: { max_new_tokens: 100_000 } });
const RPC_LONG = JSON.stringify({ inputs: [{ text: 'SLOW@5' }], parameters: { maxNewTokens: 100_000 } });
const PREDICT = '/loramux.v1.InferenceService/Predict';
const STREAM = '/loramux.v1.InferenceService/StreamPredict';

function post(path: string, body: string, version: string, type = 'application/json'): string {
  const headers = `Host: a\r\nContent-Type: ${type}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n`;
  return `POST ${path} HTTP/${version}\r\n${headers}${body}`;
}

/** In an envelope, as Connect has the messages of streams. */
function enveloped(message: string): string {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return head.toString('latin1') + message;
}

describe('a client that ends its side of an HTTP/1.1 connection', () => {
  async function serve(use: (port: number, services: MemoryServices) => Promise<void>): Promise<void> {
    const services = memoryServices();
    const rest = await createRestApp(services, { maxBodyBytes: 1_000_000 });
    const listener = createListener({
      handler: connectHandler({ services, fallback: (req, res) => rest.routing(req as never, res as never) }),
    });
    await listener.listen('127.0.0.1', 0);
    try {
      await use(listener.address!.port, services);
    } finally {
      await listener.close(0);
      await rest.close();
    }
  }

  for (const version of ['1.0', '1.1']) {
    it(`gets answers that wait for no row, over HTTP/${version}`, async () => {
      await serve(async (port) => {
        for (const [ask, answer] of [
          [`GET /ping HTTP/${version}\r\nHost: a\r\n\r\n`, / 200 .*\{/s],
          [post('/invocations', '{"inputs": 3}', version), / 400 .*INVALID_REQUEST/s],
          [post('/grpc.health.v1.Health/Check', '{}', version), / 200 .*SERVING/s],
        ] as const) {
          const { socket, received, closed } = await openRaw(port);
          socket.end(ask);
          await closed;
          assert.match(received(), answer);
        }
      });
    });

    it(`is told that its rows are not run on, over HTTP/${version}`, async () => {
      await serve(async (port, services) => {
        for (const ask of [post('/invocations', long(false), version), post(PREDICT, RPC_LONG, version)]) {
          const { socket, received, closed } = await openRaw(port);
          socket.end(ask);
          await closed;
          assert.match(received(), / 499 .*ended its side of the connection.*CANCELED/s);
          await eventually(() => services.running() === 0, 'the row is freed');
        }
      });
    });
  }

  it('is known to have done so also to who asks after that', async () => {
    const listener = createListener({
      handler: (_req, res) => {
        setTimeout(() => onClientEnded(res, () => (res.end as (text: string) => void)('it has ended')), 100);
      },
    });
    await listener.listen('127.0.0.1', 0);
    const { socket, received, closed } = await openRaw(listener.address!.port);
    socket.end('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    await closed;
    await listener.close(0);
    assert.match(received(), / 200 .*it has ended/s);
  });

  it('frees its row in the middle of a stream, and the stream says why it ends', async () => {
    await serve(async (port, services) => {
      const connect = post(STREAM, enveloped(RPC_LONG), '1.1', 'application/connect+json');
      for (const ask of [post('/invocations', long(true), '1.1'), connect]) {
        const { socket, received, closed } = await openRaw(port);
        socket.write(Buffer.from(ask, 'latin1'));
        while (!/ 200 OK.*\r\n\r\n./s.test(received())) await once(socket, 'data');
        socket.end();
        await eventually(() => services.running() === 0, 'the row is freed');
        await closed;
        assert.match(received(), /ended its side of the connection/);
      }
    });
  });
});
