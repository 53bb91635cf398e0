import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect as connectH2, constants } from 'node:http2';
import { type TestContext, test } from 'node:test';
import type { AnyRequest, AnyResponse } from '../../server/listener/exchange.js';
import { createListener, type ListenerOptions } from '../../server/listener/listener.js';
import { eventually } from '../rpc/start-server.js';
import { openRaw, type RawConnection } from './raw-client.js';
import { data, openH2, request, reset } from './raw-h2.js';

/** More than the buffers of a connection take. */
const BIG = Buffer.alloc(30_000_000);
const GET_BIG = 'GET /big HTTP/1.1\r\nHost: a\r\n\r\n';

async function serve(t: TestContext, options: Partial<ListenerOptions>) {
  const cuts: string[] = [];
  const answers = new Set<AnyResponse>();
  let begun = 0;
  const handler = (req: AnyRequest, res: AnyResponse): void => {
    begun += 1;
    answers.add(res);
    res.once('close', () => answers.delete(res));
    if (req.url === '/never') {
      res.writeHead(200);
      (res.write as (text: string) => void)('');
      return;
    }
    let length = 0;
    req.on('data', (chunk: Buffer) => {
      length += chunk.length;
    });
    req.on('end', () => (res.end as (body: unknown) => void)(req.url === '/big' ? BIG : `${req.url} ${length}`));
  };
  const onCut: ListenerOptions['onCut'] = (reason, _address, count) => {
    for (let cut = 0; cut < count; cut += 1) cuts.push(reason);
  };
  const listener = createListener({ handler, onCut, ...options });
  await listener.listen('127.0.0.1', 0);
  t.after(() => listener.close(0));
  const { port } = listener.address!;
  const isServed = async (): Promise<void> => {
    const answer = await fetch(`http://127.0.0.1:${port}/after`, { method: 'POST', body: 'four' });
    assert.equal(await answer.text(), '/after 4');
  };
  const opened = async (opening: Promise<RawConnection>): Promise<RawConnection> => {
    const connection = await opening;
    t.after(() => connection.socket.destroy());
    return connection;
  };
  const h1 = () => opened(openRaw(port));
  const h2 = () => opened(openH2(port));
  return { listener, port, h1, h2, cuts, answers, isServed, begun: () => begun };
}

test('an answer that nobody reads is cut, whichever way it is not read', async (t) => {
  const { port, h1, h2, cuts, answers, isServed } = await serve(t, { unreadTimeoutMs: 600, silenceTimeoutMs: 400 });
  (await h1()).socket.pause().write(GET_BIG);
  (await h2()).socket.pause().write(request(1, '/big'));
  const session = connectH2(`http://127.0.0.1:${port}`, { settings: { initialWindowSize: 0 } });
  t.after(() => session.destroy());
  const shut = session.request({ ':path': '/big' });
  shut.on('error', () => {});
  await eventually(() => answers.size === 3, 'all are answered');
  await isServed();
  await eventually(() => shut.closed, 'the stream is cut');
  assert.equal(shut.rstCode, constants.NGHTTP2_ENHANCE_YOUR_CALM);
  await eventually(() => answers.size === 0, 'no answer is kept');
  await eventually(() => cuts.length === 3, 'all are told of');
  assert.deepEqual(cuts, Array(3).fill('answer not read'));
  // The connection of the stream that was cut goes on.
  const [headers] = await once(session.request({ ':path': '/never' }), 'response');
  assert.equal(headers[':status'], 200);
});

test('an answer that is read slowly comes to its end', async (t) => {
  const { h1, h2, cuts } = await serve(t, { unreadTimeoutMs: 600 });
  for (const open of [h1, h2]) {
    const { socket } = await open();
    let length = 0;
    socket.on('data', (chunk) => {
      length += chunk.length;
      if (length < 20_000_000) return;
      socket.pause();
      setTimeout(() => socket.resume(), 10);
    });
    socket.pause();
    socket.write(open === h1 ? GET_BIG : request(1, '/big'));
    for (let pauses = 0; pauses < 4; pauses += 1) {
      await new Promise((resolve) => setTimeout(resolve, 400));
      const until = length + 4_000_000;
      socket.resume();
      while (length < until) await once(socket, 'data');
      socket.pause();
    }
    socket.resume();
    await eventually(() => length >= BIG.length, 'all of it is there');
  }
  assert.deepEqual(cuts, []);
});

test('where answers and bodies hold too much, those that hold most are cut, and others are served', async (t) => {
  const { h1, cuts, answers, isServed } = await serve(t, { maxHeldBytes: 50_000_000 });
  const small = await h1();
  small.socket.write('POST /small HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nfo');
  await eventually(() => answers.size === 1, 'a small request is under way');
  const readers = [await h1(), await h1(), await h1()];
  for (const { socket } of readers) socket.pause().write(GET_BIG);
  await eventually(() => cuts.length === 2, 'room is made');
  const writer = await h1();
  writer.socket.write('POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 60000000\r\n\r\n');
  writer.socket.write(Buffer.alloc(51_000_000));
  await writer.closed;
  assert.match(writer.received(), /^(HTTP\/1\.1 503 .*Connection: close.*)?$/s);
  assert.deepEqual([...new Set(cuts)], ['too much held']);
  await isServed();
  small.socket.write('ur');
  while (!small.received().includes('/small 4')) await once(small.socket, 'data');
});

test('a connection that the library has given up is ended, with what runs on it', async (t) => {
  const { h2, cuts, answers } = await serve(t, { silenceTimeoutMs: 300 });
  const { socket, closed } = await h2();
  socket.write(Buffer.concat([request(1, '/never'), data(7, 'on a stream that was never opened')]));
  await eventually(() => answers.size === 1, 'the request runs');
  await closed;
  await eventually(() => answers.size === 0, 'the request is over');
  await eventually(() => cuts.length > 0, 'it is told of');
  assert.deepEqual(cuts, ['no sign of life']);
});

test('a client that is silent and still there keeps its connection', async (t) => {
  const { port, cuts, answers } = await serve(t, { silenceTimeoutMs: 200 });
  const session = connectH2(`http://127.0.0.1:${port}`);
  t.after(() => session.destroy());
  session.request({ ':path': '/never' });
  let pings = 0;
  session.on('ping', () => {
    pings += 1;
  });
  await eventually(() => pings >= 3, 'it is asked again and again');
  assert.equal(answers.size, 1);
  assert.deepEqual(cuts, []);
});

test('a shutdown cuts those who do not read', async (t) => {
  const { listener, h1, h2, answers } = await serve(t, {});
  (await h1()).socket.pause().write(GET_BIG);
  (await h2()).socket.pause().write(request(1, '/big'));
  await eventually(() => answers.size === 2, 'both are answered');
  await listener.close(0);
  assert.equal(answers.size, 0);
});

test('requests that are reset in the same breath are not begun, and whoever goes on so is cut', async (t) => {
  const { h2, cuts, begun, isServed } = await serve(t, {});
  const few = await h2();
  few.socket.write(
    Buffer.concat(Array.from({ length: 100 }, (_, at) => [request(2 * at + 1, '/never'), reset(2 * at + 1)]).flat()),
  );
  await isServed();
  assert.equal(begun(), 1);
  const many = await h2();
  many.socket.write(
    Buffer.concat(Array.from({ length: 3000 }, (_, at) => [request(2 * at + 1, '/never'), reset(2 * at + 1)]).flat()),
  );
  await many.closed;
  await eventually(() => cuts.length > 0, 'it is told of');
  assert.deepEqual([...new Set(cuts)], ['too many requests reset']);
  await isServed();
});

test('a body in small pieces is read as one in large pieces is, and one of crumbs is refused', async (t) => {
  const { h1, h2, cuts, isServed } = await serve(t, {});
  const chunks = (count: number) => `1\r\na\r\n`.repeat(count);
  const head = 'POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n';
  const one = await h1();
  one.socket.write(`${head}${chunks(9000)}0\r\n\r\n`);
  while (!one.received().includes('/body 9000')) await once(one.socket, 'data');
  one.socket.write(`${head}${chunks(100_000)}`);
  await one.closed;
  const two = await h2();
  const frames = (stream: number, count: number) => Buffer.concat(Array(count).fill(data(stream, 'a')));
  two.socket.write(Buffer.concat([request(1, '/body', false), frames(1, 9000), data(1, 'b', true)]));
  while (!two.received().includes('/body 9001')) await once(two.socket, 'data');
  two.socket.write(Buffer.concat([request(3, '/body', false), frames(3, 20_000)]));
  await eventually(() => cuts.length === 2, 'both are cut');
  assert.deepEqual([...new Set(cuts)], ['body in crumbs']);
  await isServed();
});
