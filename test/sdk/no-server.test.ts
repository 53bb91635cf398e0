/** What answers is no server of ours, or breaks off: clients are told so, and their processes go on. */
import assert from 'node:assert/strict';
import { createServer, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import * as sdk from '../../sdk/node.js';

async function answering(t: TestContext, answer: (socket: Socket) => void): Promise<string> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket.on('error', () => {}));
    answer(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return `127.0.0.1:${(server.address() as { port: number }).port}`;
}

const ANSWERS: Readonly<Record<string, (socket: Socket) => void>> = {
  'another protocol': (socket) => socket.write('SSH-2.0-OpenSSH_9.2\r\n'),
  'an old proxy': (socket) =>
    socket.write('HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n'),
  'a line that is cut': (socket) => socket.resetAndDestroy(),
};

for (const protocol of ['grpc', 'connect'] as const) {
  for (const [what, answer] of Object.entries(ANSWERS)) {
    test(`a client over ${protocol} that is closed after ${what} ends nobody's process`, async (t) => {
      const client = new sdk.LoramuxClient({ baseUrl: `http://${await answering(t, answer)}`, protocol });
      const options = { maxRetries: 0, timeoutMs: 10_000 };
      await assert.rejects(
        client.predict('one', options).finally(() => client.close()),
        sdk.ConnectionError,
      );
      // An error that nobody listens to comes a little later.
      await new Promise((resolve) => setTimeout(resolve, 50));
    });
  }
}

for (const protocol of ['grpc', 'connect', 'connect-h1'] as const) {
  test(`a client over ${protocol} says that there is no connection where TLS does not come about`, async (t) => {
    const baseUrl = `https://${await answering(t, (socket) => socket.write('HTTP/1.1 400 Bad Request\r\n\r\n'))}`;
    const client = new sdk.LoramuxClient({ baseUrl, protocol });
    t.after(() => client.close());
    await assert.rejects(client.predict('one', { maxRetries: 0 }), sdk.ConnectionError);
  });
}
