/** What the protocol layer refuses by itself is told as every other error is, on every protocol. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import http2 from 'node:http2';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { create, fromBinary } from '@bufbuild/protobuf';
import { WireType } from '@bufbuild/protobuf/wire';
import { Code, type ConnectError, createClient } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from '@connectrpc/connect-node';
import { BadRequestSchema, ErrorInfoSchema } from '../../gen/google/rpc/error_details_pb.js';
import {
  ChatMessageSchema,
  InferenceService,
  PredictInputSchema,
  PredictRequestSchema,
  StreamPredictRequestSchema,
} from '../../gen/loramux/v1/inference_pb.js';
import { findProgram } from './programs.js';
import { startServer, type TestServer } from './start-server.js';

const UNARY = '/loramux.v1.InferenceService/Predict';
const STREAM = '/loramux.v1.InferenceService/StreamPredict';
const LIMIT = 10_000;
const large = { inputs: [{ prompt: { case: 'text' as const, value: 'a'.repeat(2 * LIMIT) } }] };

/** An error of Connect, with its details read. */
interface Told {
  readonly code: string;
  readonly message: string;
  readonly reason: string | undefined;
  readonly requestId: string | undefined;
}

interface Wire {
  readonly code: string;
  readonly message: string;
  readonly details?: { type: string; value: string }[];
}

/** Reads `{code, message, details}` of Connect. */
function told(json: Wire): Told {
  const detail = json.details?.find(({ type }) => type === ErrorInfoSchema.typeName);
  const info = detail && fromBinary(ErrorInfoSchema, Buffer.from(detail.value, 'base64'));
  return { code: json.code, message: json.message, reason: info?.reason, requestId: info?.metadata.request_id };
}

/** Message in an envelope of gRPC, gRPC-Web and streams of Connect. */
function envelope(bytes: Uint8Array, flags = 0): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt8(flags, 0);
  head.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([head, bytes]);
}

describe('what the protocol layer refuses', () => {
  let server: TestServer;
  before(async () => {
    server = await startServer({ readMaxBytes: LIMIT });
  });
  after(() => server.close());

  const post = (path: string, type: string | undefined, body: string | Buffer, headers: Record<string, string> = {}) =>
    fetch(server.baseUrl + path, {
      method: 'POST',
      headers: { ...(type && { 'content-type': type }), 'x-request-id': 'mine', ...headers },
      body: new Uint8Array(Buffer.from(body)),
    });

  const unary: readonly [string, string, string | Buffer, Record<string, string>, number, Partial<Told>][] = [
    ['JSON that ends early', 'application/json', '{"inputs":[', {}, 400, { code: 'invalid_argument' }],
    ['a field that nobody knows', 'application/json', '{"x":1}', {}, 400, { code: 'invalid_argument' }],
    [
      'bytes that are no message',
      'application/proto',
      Buffer.from([0xff, 0xff]),
      {},
      400,
      { code: 'invalid_argument' },
    ],
    [
      'a time that is none',
      'application/json',
      '{}',
      { 'connect-timeout-ms': 'soon' },
      400,
      { code: 'invalid_argument' },
    ],
    [
      'a compression that nobody knows',
      'application/json',
      '{}',
      { 'content-encoding': 'zip' },
      501,
      { code: 'unimplemented', reason: 'UNIMPLEMENTED' },
    ],
    [
      'a message beyond the limit',
      'application/json',
      `{"inputs":[{"text":"${'a'.repeat(2 * LIMIT)}"}]}`,
      {},
      429,
      { code: 'resource_exhausted', reason: 'PAYLOAD_TOO_LARGE' },
    ],
  ];
  for (const [what, type, body, headers, status, wanted] of unary) {
    it(`Connect: ${what}`, async () => {
      const answer = await post(UNARY, type, body, headers);
      assert.equal(answer.status, status);
      const error = told((await answer.json()) as Wire);
      assert.deepEqual(
        { ...error, message: '' },
        { reason: 'INVALID_REQUEST', requestId: 'mine', message: '', ...wanted },
      );
      assert.ok(error.message.length > 0);
      const record = server.records.at(-1)!;
      assert.deepEqual([record.requestId, record.code, record.reason], ['mine', error.code, error.reason]);
    });
  }

  it('Connect: JSON of a stream that ends early, in the last envelope', async () => {
    const answer = await post(STREAM, 'application/connect+json', envelope(Buffer.from('{"inputs":[')));
    const bytes = Buffer.from(await answer.arrayBuffer());
    assert.equal(bytes.readUInt8(0), 2, 'the end of the stream comes first');
    const { error } = JSON.parse(bytes.subarray(5).toString());
    assert.deepEqual(
      { ...told(error), message: '' },
      { code: 'invalid_argument', reason: 'INVALID_REQUEST', requestId: 'mine', message: '' },
    );
  });

  it('gRPC, gRPC-Web and Connect: fields of a newer schema, wherever they are, by their number and place', async () => {
    // Field 50 of an input and of a message: a text, as an adapter's name would be.
    const newer = () => [{ no: 50, wireType: WireType.LengthDelimited, data: Buffer.from('\x06pirate') }];
    const text = { case: 'text' as const, value: 'Hello' };
    const plain = create(PredictInputSchema, { prompt: text });
    const other = create(PredictInputSchema, { prompt: text });
    other.$unknown = newer();
    const message = create(ChatMessageSchema, { role: 'user', content: 'Hello' });
    message.$unknown = newer();
    const chat = create(PredictInputSchema, { prompt: { case: 'chat', value: { messages: [message] } } });
    const unary = create(PredictRequestSchema, { inputs: [plain, other, chat] });
    const streamed = create(StreamPredictRequestSchema, { inputs: [plain, other, chat] });
    for (const request of [unary, streamed]) request.$unknown = newer();
    const options = { baseUrl: server.baseUrl, useBinaryFormat: true } as const;
    for (const transport of [
      createConnectTransport({ ...options, httpVersion: '1.1' }),
      createGrpcTransport(options),
      createGrpcWebTransport({ ...options, httpVersion: '1.1' }),
    ]) {
      const client = createClient(InferenceService, transport);
      const stream = async () => {
        for await (const event of client.streamPredict(streamed)) assert.fail(event.$typeName);
      };
      for (const ask of [() => client.predict(unary), stream]) {
        await assert.rejects(ask, (error: ConnectError) => {
          assert.equal(error.code, Code.InvalidArgument);
          const [details] = error.findDetails(BadRequestSchema);
          const fields = details?.fieldViolations.map(({ field }) => field);
          assert.deepEqual(fields, ['#50', 'inputs[1].#50', 'inputs[2].chat.messages[0].#50']);
          return true;
        });
      }
      assert.equal((await client.predict({ inputs: [plain] })).results.length, 1);
    }
  });

  it('gRPC-Web and gRPC: bytes that are no message, in the trailers', async () => {
    const broken = envelope(Buffer.from([0xff, 0xff]));
    for (const path of [UNARY, STREAM]) {
      const web = Buffer.from(await (await post(path, 'application/grpc-web+proto', broken)).arrayBuffer());
      assert.equal(web.readUInt8(0), 0x80);
      const trailers = new Map(
        web
          .subarray(5)
          .toString()
          .trim()
          .split('\r\n')
          .map((line) => line.split(': ') as [string, string]),
      );
      const grpc = await grpcTrailers(server.baseUrl, path, broken);
      for (const trailer of [Object.fromEntries(trailers), grpc]) {
        assert.equal(trailer['grpc-status'], String(Code.InvalidArgument), path);
        assert.match(
          Buffer.from(trailer['grpc-status-details-bin']!, 'base64').toString('latin1'),
          /google\.rpc\.ErrorInfo[\s\S]*INVALID_REQUEST[\s\S]*mine/,
        );
      }
    }
  });

  const transports = {
    Connect: () => createConnectTransport({ baseUrl: server.baseUrl, httpVersion: '1.1' }),
    gRPC: () => createGrpcTransport({ baseUrl: server.baseUrl }),
    'gRPC-Web': () => createGrpcWebTransport({ baseUrl: server.baseUrl, httpVersion: '1.1' }),
  };
  for (const [name, connect] of Object.entries(transports)) {
    it(`${name}: a message beyond the limit, calls and streams`, async () => {
      const client = createClient(InferenceService, connect());
      const read = async () => {
        for await (const _ of client.streamPredict(large));
      };
      for (const call of [client.predict(large), read()]) {
        await assert.rejects(call, (error: ConnectError) => {
          assert.equal(error.code, Code.ResourceExhausted);
          const info = error.findDetails(ErrorInfoSchema)[0]!;
          assert.deepEqual([info.reason, info.domain], ['PAYLOAD_TOO_LARGE', 'loramux']);
          assert.ok(info.metadata.request_id);
          return true;
        });
      }
    });
  }

  it('a query that is no base64 where it says so', async () => {
    const query = new URLSearchParams({ connect: 'v1', encoding: 'json', base64: '1', message: '!!!' });
    const url = `${server.baseUrl}/loramux.v1.AdapterService/GetAdapter?${query}`;
    const answer = await fetch(url, { headers: { 'x-request-id': 'mine' } });
    assert.equal(answer.status, 400);
    const { code, message, reason, requestId } = told((await answer.json()) as Wire);
    assert.deepEqual([code, reason, requestId], ['invalid_argument', 'INVALID_REQUEST', 'mine']);
    assert.match(message, /base64/);
  });

  it('a content type or a method that no protocol has: the status, and what would be right', async () => {
    const cases: readonly [Response, number, string, RegExp][] = [
      [await post(UNARY, 'text/plain', '{}'), 415, 'INVALID_REQUEST', /"text\/plain".*application\/json/],
      [await post(STREAM, 'application/json', '{}'), 415, 'INVALID_REQUEST', /connect\+json/],
      [
        await fetch(server.baseUrl + UNARY, { headers: { 'x-request-id': 'mine' } }),
        405,
        'METHOD_NOT_ALLOWED',
        /use POST$/,
      ],
    ];
    for (const [answer, status, reason, message] of cases) {
      assert.equal(answer.status, status);
      const error = told((await answer.json()) as Wire);
      assert.deepEqual([error.reason, error.requestId], [reason, 'mine']);
      assert.match(error.message, message);
    }
    assert.equal(cases[2]![0].headers.get('allow'), 'POST');
    const list = await fetch(`${server.baseUrl}/loramux.v1.AdapterService/ListAdapters`, { method: 'DELETE' });
    assert.deepEqual([list.status, list.headers.get('allow')], [405, 'POST, GET']);
  });

  const grpcurl = findProgram('grpcurl');
  it('grpcurl shows it', { skip: grpcurl === undefined && 'grpcurl is not installed' }, async () => {
    const data = JSON.stringify({ inputs: [{ text: 'a'.repeat(2 * LIMIT) }] });
    const args = ['-plaintext', '-d', data, `${server.host}:${server.port}`, UNARY.slice(1)];
    await assert.rejects(promisify(execFile)(grpcurl!, args), (error: Error & { stderr: string }) => {
      assert.match(error.stderr, /Code: ResourceExhausted[\s\S]*"reason": {1,2}"PAYLOAD_TOO_LARGE"/);
      return true;
    });
  });
});

/** Trailers of a gRPC call with a body of bytes. */
function grpcTrailers(baseUrl: string, path: string, body: Buffer): Promise<Record<string, string>> {
  return new Promise((resolve, reject) => {
    const session = http2.connect(baseUrl);
    const stream = session.request({
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc',
      te: 'trailers',
      'x-request-id': 'mine',
    });
    let trailers: Record<string, string> = {};
    const take = (headers: http2.IncomingHttpHeaders) => {
      trailers = { ...trailers, ...(headers as Record<string, string>) };
    };
    stream.on('response', take).on('trailers', take).on('error', reject).resume();
    stream.on('close', () => {
      session.close();
      resolve(trailers);
    });
    stream.end(body);
  });
}
