import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect as connectH2, constants } from 'node:http2';
import { createServer } from 'node:net';
import { after, before, describe, it } from 'node:test';
import fc from 'fast-check';
import type { AnyRequest, AnyResponse } from '../../server/listener/exchange.js';
import { createListener, type Listener } from '../../server/listener/listener.js';
import { openRaw } from './raw-client.js';

const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
const EMPTY_SETTINGS = '\0\0\0\x04\0\0\0\0\0';
/** Longest pause of a request's body. */
const BODY_MS = 600;
/** Longest body that is asked for. */
const MAX_BODY = 100_000;
const GET = 'GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n';

/** Answers with what it was asked; some paths misbehave as frameworks do. */
function handler(req: AnyRequest, res: AnyResponse): void {
  if (req.url === '/connection-headers') {
    res.setHeader('keep-alive', 'timeout=5');
    (res.writeHead as (status: number, headers: object) => void)(500, {
      connection: 'close',
      'transfer-encoding': 'chunked',
      'x-kept': 'yes',
    });
    res.end('failed');
    return;
  }
  if (req.url === '/late') {
    req.resume().on('end', () => setTimeout(() => res.end('here it is'), 3 * BODY_MS));
    return;
  }
  if (req.url === '/refused') {
    res.statusCode = 413;
    res.end('too long');
    return;
  }
  if (req.url === '/headers') {
    res.end(`last: ${req.headers['x-last']}`);
    return;
  }
  let length = 0;
  req.on('data', (chunk: Buffer) => {
    length += chunk.length;
  });
  req.on('end', () => res.end(`${req.httpVersion} ${req.method} ${req.url} ${length}`));
}

describe('listener', () => {
  let listener: Listener;
  let port: number;
  before(async () => {
    listener = createListener({
      handler,
      sniffTimeoutMs: 300,
      headersTimeoutMs: 400,
      requestTimeoutMs: BODY_MS,
      maxBodyBytes: MAX_BODY,
    });
    await listener.listen('127.0.0.1', 0);
    port = listener.address!.port;
  });
  after(() => listener.close(0));

  const h2 = async (path: string, headers: Record<string, string> = {}) => {
    const session = connectH2(`http://127.0.0.1:${port}`);
    const stream = session.request({ ':path': path, ...headers });
    let body = '';
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      body += chunk;
    });
    const [received] = (await once(stream, 'response')) as [Record<string, string>];
    if (!stream.closed) await once(stream, 'close');
    session.close();
    return { headers: received, body };
  };

  it('serves both protocols on one port', async () => {
    const response = await fetch(`http://127.0.0.1:${port}/a`, { method: 'POST', body: 'four' });
    assert.equal(await response.text(), '1.1 POST /a 4');
    assert.equal((await h2('/b')).body, '2.0 GET /b 0');
  });

  it('asks for no body that is declared too long', async () => {
    const ask = async (path: string, length: number, body = '') => {
      const { socket, received, closed } = await openRaw(port);
      socket.write(`POST ${path} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: ${length}\r\n\r\n`);
      while (received() === '') await once(socket, 'data');
      if (body !== '') socket.end(body);
      await closed;
      return received();
    };
    assert.match(await ask('/a', 4, 'four'), /^HTTP\/1\.1 100 Continue.*1\.1 POST \/a 4$/s);
    assert.match(await ask('/refused', MAX_BODY + 1), /^HTTP\/1\.1 413 .*connection: close.*too long$/is);
  });

  it('hands on every header of a request, however many there are', async () => {
    const { received, socket, closed } = await openRaw(port);
    const many = 'a:\r\n'.repeat(3000);
    socket.write(`GET /headers HTTP/1.1\r\nHost: a\r\n${many}X-Last: here\r\nConnection: close\r\n\r\n`);
    await closed;
    assert.match(received(), /last: here/);
  });

  it('serves what arrives in any pieces', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(GET, PREFACE + EMPTY_SETTINGS),
        fc.array(fc.nat(40), { maxLength: 4 }),
        async (text, cuts) => {
          const { socket, received, closed } = await openRaw(port);
          socket.setNoDelay(true);
          const edges = [...new Set([0, ...cuts.filter((cut) => cut < text.length), text.length])].sort(
            (a, b) => a - b,
          );
          for (let i = 1; i < edges.length; i++) {
            socket.write(text.slice(edges[i - 1], edges[i]), 'latin1');
            await new Promise((resolve) => setTimeout(resolve, 2));
          }
          if (text === GET) {
            await closed;
            assert.match(received(), /^HTTP\/1\.1 200 OK[\s\S]*GET \/hello/);
            return;
          }
          while (received().length < 9) await once(socket, 'data');
          assert.equal(received().charCodeAt(3), 4, 'the first frame is SETTINGS');
          socket.destroy();
        },
      ),
      { numRuns: 15 },
    );
  });

  it('serves a preface that comes byte by byte', async () => {
    const { socket, received } = await openRaw(port);
    socket.setNoDelay(true);
    for (const byte of PREFACE) {
      socket.write(byte);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    socket.write(EMPTY_SETTINGS, 'latin1');
    while (received().length < 9) await once(socket, 'data');
    assert.equal(received().charCodeAt(3), 4);
    socket.destroy();
  });

  for (const [name, bytes] of Object.entries({ nothing: '', 'half a preface': 'PRI * HT' })) {
    it(`cuts off a client that sends ${name}`, async () => {
      const { socket, received, closed } = await openRaw(port);
      if (bytes) socket.write(bytes);
      await closed; // a busy loop while undecided would keep the timer from firing
      assert.equal(received(), '');
    });
  }

  it('cuts off a client that drips the preface', async () => {
    const { socket, closed } = await openRaw(port);
    let sent = 0;
    const drip = setInterval(() => socket.write(PREFACE[sent++] ?? ''), 100);
    await closed;
    clearInterval(drip);
    assert.ok(sent < PREFACE.length);
  });

  it('serves what came in time, however late the process gets to read it', async () => {
    const { socket, received, closed } = await openRaw(port);
    await new Promise((resolve) => setTimeout(resolve, 20));
    // From here timers come before what there is to read.
    await new Promise((resolve) => setImmediate(resolve));
    socket.write(GET);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 400);
    await closed;
    assert.match(received(), /^HTTP\/1.1 200 /);
  });

  it('answers garbage with 400', async () => {
    const { socket, received, closed } = await openRaw(port);
    socket.write(Buffer.from([0, 1, 2, 255]));
    await closed;
    assert.match(received(), /^HTTP\/1\.1 400 /);
  });

  it('survives a preface followed by garbage', async () => {
    const { socket, closed } = await openRaw(port);
    socket.write(`${PREFACE}${'garbage'.repeat(20)}`, 'latin1');
    await closed;
    assert.equal((await h2('/after')).body, '2.0 GET /after 0');
  });

  it('survives clients that reset the connection at any point', async () => {
    for (const bytes of ['', 'P', 'PRI * HTTP/2.0', PREFACE, 'GET / HT', GET]) {
      const { socket, closed } = await openRaw(port);
      if (bytes) socket.write(bytes);
      socket.resetAndDestroy();
      await closed;
    }
    assert.equal((await h2('/after')).body, '2.0 GET /after 0');
  });

  it('answers 408 to half a header, and to a body that never comes', async () => {
    for (const bytes of ['GET / HTTP/1.1\r\nHos', 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nfour']) {
      const { socket, received, closed } = await openRaw(port);
      socket.write(bytes);
      await closed;
      assert.match(received(), /^HTTP\/1\.1 408 /);
    }
  });

  it('answers 431 to headers that are too large', async () => {
    const { socket, received, closed } = await openRaw(port);
    socket.write(`GET / HTTP/1.1\r\nHost: a\r\nX-Long: ${'a'.repeat(40_000)}\r\n\r\n`);
    await closed;
    assert.match(received(), /^HTTP\/1\.1 431 /);
  });

  it('resets an HTTP/2 request whose body stops coming, and leaves its neighbours alone', async () => {
    const session = connectH2(`http://127.0.0.1:${port}`);
    const stuck = session.request({ ':path': '/', ':method': 'POST' });
    stuck.on('error', () => {});
    stuck.write('four');
    await once(stuck, 'close');
    assert.equal(stuck.rstCode, constants.NGHTTP2_CANCEL);
    const next = session.request({ ':path': '/next' });
    const [headers] = await once(next, 'response');
    assert.equal(headers[':status'], 200);
    next.resume();
    session.close();
  });

  it('waits for the answer to an HTTP/2 request however long it takes, whether its body came alone or with the rest', async () => {
    const path = '\x04\x05/late';
    const headers = `\x83\x86${path}\x01\x01a`; // POST, http, the path, host a
    const length = String.fromCharCode(headers.length);
    const parts = [
      `${PREFACE}${EMPTY_SETTINGS}`,
      `\0\0${length}\x01\x04\0\0\0\x01${headers}`,
      '\0\0\x04\0\x01\0\0\0\x01body',
    ];
    const reset = '\0\0\x04\x03\0\0\0\0\x01';
    for (const pieces of [parts, [parts.join('')]]) {
      const { socket, received } = await openRaw(port);
      for (const piece of pieces) {
        socket.write(piece, 'latin1');
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      while (!received().includes('here it is') && !received().includes(reset)) await once(socket, 'data');
      assert.ok(!received().includes(reset), `sent in ${pieces.length} pieces`);
      socket.destroy();
    }
  });

  it('gives every answer a request id: the one of the client if it is clean, else a new one', async () => {
    const id = async (given?: string): Promise<string | null> => {
      const headers: Record<string, string> = given === undefined ? {} : { 'x-request-id': given };
      const response = await fetch(`http://127.0.0.1:${port}/`, { headers });
      await response.text();
      return response.headers.get('x-request-id');
    };
    assert.equal(await id('abc-123'), 'abc-123');
    for (const unusable of [undefined, 'two words', 'x'.repeat(129)]) {
      assert.match((await id(unusable)) ?? '', /^[0-9a-f-]{36}$/);
    }
    assert.equal((await h2('/', { 'x-request-id': 'abc-123' })).headers['x-request-id'], 'abc-123');
  });

  it('drops connection headers of an HTTP/1.1 framework from HTTP/2 answers', async () => {
    const { headers, body } = await h2('/connection-headers');
    assert.equal(headers[':status'], 500);
    assert.equal(headers['x-kept'], 'yes');
    assert.equal(body, 'failed');
    for (const name of ['connection', 'keep-alive', 'transfer-encoding']) assert.equal(headers[name], undefined);
  });

  it('serves an upgrade to h2c as HTTP/1.1', async () => {
    const { socket, received, closed } = await openRaw(port);
    const upgrade =
      'Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n';
    socket.write(`GET /up HTTP/1.1\r\nHost: a\r\n${upgrade}\r\n`);
    await Promise.race([closed, once(socket, 'data')]);
    assert.match(received(), /^HTTP\/1\.1 200 OK/);
    socket.destroy();
  });

  it('refuses an address that is taken', async () => {
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const second = createListener({ handler });
    const { port: takenPort } = taken.address() as { port: number };
    await assert.rejects(second.listen('127.0.0.1', takenPort), { code: 'EADDRINUSE' });
    await second.close(0);
    taken.close();
  });
});
