import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type TestContext, test } from 'node:test';
import type { AnyRequest, AnyResponse } from '../../server/listener/exchange.js';
import { createListener, type ListenerOptions } from '../../server/listener/listener.js';
import { eventually } from '../rpc/start-server.js';
import { openRaw } from './raw-client.js';

const get = (path: string, headers = ''): string => `GET ${path} HTTP/1.1\r\nHost: a\r\n${headers}\r\n`;

/** A server that answers with the path and the length of the body, and `/held` when the test says so. */
async function serve(t: TestContext, options: Partial<ListenerOptions> = {}) {
  const begun: string[] = [];
  const held: (() => void)[] = [];
  const cuts: string[] = [];
  const told: { first: ((path: string) => void) | undefined } = { first: undefined };
  const handler = (req: AnyRequest, res: AnyResponse): void => {
    const path = req.url!;
    begun.push(path);
    told.first?.(path);
    told.first = undefined;
    if (path === '/begun') {
      (res.write as (text: string) => void)('begun');
      return;
    }
    let length = 0;
    req.on('data', (chunk: Buffer) => {
      length += chunk.length;
    });
    const end = (): void => void (res.end as (body: string) => void)(`[${path} ${length}]`);
    req.on('end', () => (path === '/held' ? held.push(end) : end()));
  };
  const listener = createListener({ handler, onCut: (reason) => cuts.push(reason), ...options });
  await listener.listen('127.0.0.1', 0);
  t.after(() => listener.close(0));
  const { port } = listener.address!;
  const open = async () => {
    const connection = await openRaw(port);
    t.after(() => connection.socket.destroy());
    const answers = () =>
      [...connection.received().matchAll(/\[(\S+) (\d+)\]/g)].map(([, path, length]) => `${path} ${length}`);
    return { ...connection, answers };
  };
  const isServed = async (path = '/other'): Promise<void> => {
    const answer = await fetch(`http://127.0.0.1:${port}${path}`);
    assert.equal(await answer.text(), `[${path} 0]`);
  };
  return { open, begun, held, cuts, isServed, told };
}

test('requests that come before the answer to an earlier one are begun one after another, in their order', async (t) => {
  const { open, begun, held } = await serve(t);
  const { socket, answers } = await open();
  socket.write(`${get('/held')}POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nfour${get('/last')}`);
  await eventually(() => held.length === 1, 'the first is there');
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.deepEqual(begun, ['/held']);
  held[0]!();
  while (answers().length < 3) await once(socket, 'data');
  assert.deepEqual(answers(), ['/held 0', '/body 4', '/last 0']);
  assert.deepEqual(begun, ['/held', '/body', '/last']);
});

test('others are served between the requests that a client has sent at once', async (t) => {
  const { open, begun, isServed, told } = await serve(t);
  const other = new Promise<void>((resolve, reject) => {
    told.first = () => void isServed().then(resolve, reject);
  });
  const { socket, answers } = await open();
  socket.write(get('/many').repeat(1000));
  await other;
  const before = begun.indexOf('/other');
  assert.ok(before < 900, `${before} requests of one client were begun first`);
  while (answers().length < 1000) await once(socket, 'data');
});

test('no more is read of a connection on which many requests wait, and all are answered in the end', async (t) => {
  const { open, begun, held, isServed } = await serve(t);
  const { socket, answers } = await open();
  const padded = get('/many', `Padding: ${'x'.repeat(10_000)}\r\n`);
  socket.write(get('/held'));
  socket.write(padded.repeat(3000));
  let left = -1;
  while (left !== socket.writableLength) {
    left = socket.writableLength;
    await isServed();
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
  assert.ok(left > 0, 'all was read');
  assert.equal(begun.filter((path) => path === '/many').length, 0);
  held[0]!();
  while (answers().length < 3001) await once(socket, 'data');
});

test('a body that comes while its request waits does not end the request before it', async (t) => {
  const { open, held } = await serve(t, { headersTimeoutMs: 300, requestTimeoutMs: 300 });
  const { socket, answers } = await open();
  const post = (length: number): string => `POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: ${length}\r\n\r\n`;
  socket.write(get('/held'));
  socket.write(post(3_000_000));
  socket.write(Buffer.alloc(3_000_000));
  await eventually(() => held.length === 1, 'the first is there');
  await new Promise((resolve) => setTimeout(resolve, 1000));
  held[0]!();
  while (answers().length < 2) {
    assert.equal(socket.destroyed, false, 'the connection is cut');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.deepEqual(answers(), ['/held 0', '/body 3000000']);
});

test('what waits for its turn is left when the client leaves', async (t) => {
  const { open, begun, held, isServed } = await serve(t);
  const { socket } = await open();
  socket.write(get('/held') + get('/many').repeat(10));
  await eventually(() => held.length === 1, 'the first is there');
  socket.resetAndDestroy();
  await isServed();
  held[0]!();
  await isServed();
  assert.deepEqual(new Set(begun), new Set(['/held', '/other']));
});

test('a client that ends its side after several requests gets all answers', async (t) => {
  const { open } = await serve(t);
  const { socket, answers, closed } = await open();
  socket.end(get('/one') + get('/two') + get('/three'));
  await closed;
  assert.deepEqual(answers(), ['/one 0', '/two 0', '/three 0']);
});

test('requests that wait count as held, and who has too many is cut', async (t) => {
  const { open, cuts, held, isServed } = await serve(t, { maxHeldBytes: 1_000_000 });
  const few = await open();
  few.socket.write(get('/held') + get('/few').repeat(10));
  const many = await open();
  many.socket.write(get('/held') + get('/many').repeat(2000));
  await many.closed;
  await eventually(() => cuts.length > 0, 'it is told of');
  assert.deepEqual([...new Set(cuts)], ['too much held']);
  await isServed();
  for (const end of held) end();
  while (few.answers().length < 11) await once(few.socket, 'data');
});

test('what ends a request that waits is not told in the middle of the answer to the one before it', async (t) => {
  const { open, cuts } = await serve(t);
  const { socket, received, closed } = await open();
  socket.write(get('/begun'));
  while (!received().includes('begun')) await once(socket, 'data');
  socket.write('POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n');
  socket.write('1\r\na\r\n'.repeat(100_000));
  await closed;
  await eventually(() => cuts.length > 0, 'it is told of');
  assert.deepEqual(cuts, ['body in crumbs']);
  assert.equal(received().match(/HTTP\/1\.1/g)?.length, 1);
});
