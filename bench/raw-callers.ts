/**
 * Callers that cost little themselves: the request is made once, and of an answer only its status and end are looked at.
 * On a machine with few cores a full client would take more of them than the server that is measured.
 */
import { connect as connectHttp2, constants } from 'node:http2';
import { connect } from 'node:net';
import type { Caller } from './closed-loop.js';

/** A request whose answer is not looked into. */
export interface RawRequest {
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
}

/** A caller, and the end of its connection. */
export interface OpenCaller {
  readonly call: Caller;
  close(): void;
}

/** One kept HTTP/1.1 connection. */
export async function http1Caller(url: string, { path, headers, body }: RawRequest): Promise<OpenCaller> {
  const { hostname, port, host } = new URL(url);
  const socket = connect(Number(port), hostname).setNoDelay(true);
  await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
  const lines = Object.entries({ host, ...headers, 'content-length': String(body.length) });
  const head = `POST ${path} HTTP/1.1\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`;
  const request = Buffer.concat([Buffer.from(head), body]);
  let settle: { resolve(): void; reject(error: Error): void } | undefined;
  let received: Buffer = Buffer.alloc(0);
  const fail = (error: Error) => settle?.reject(error);
  socket.on('error', fail).on('close', () => fail(new Error('the connection was closed')));
  socket.on('data', (chunk: Buffer) => {
    received = received.length === 0 ? chunk : Buffer.concat([received, chunk]);
    if (!isWhole(received)) return;
    const status = received.subarray(9, 12).toString('latin1');
    if (status === '200') settle?.resolve();
    else fail(new Error(received.toString('utf8').slice(0, 500)));
    received = Buffer.alloc(0);
  });
  return {
    call: () =>
      new Promise((resolve, reject) => {
        settle = { resolve, reject };
        socket.write(request);
      }),
    close: () => socket.removeAllListeners('close').destroy(),
  };
}

/** True when the answer is there with its whole body, counted or in chunks. */
function isWhole(answer: Buffer): boolean {
  const end = answer.indexOf('\r\n\r\n');
  if (end < 0) return false;
  const length = /content-length: *(\d+)/i.exec(answer.toString('latin1', 0, end))?.[1];
  if (length !== undefined) return answer.length >= end + 4 + Number(length);
  return answer.subarray(-5).equals(CHUNKED_END);
}
const CHUNKED_END = Buffer.from('0\r\n\r\n');

/** A message as gRPC frames it: no compression, length, bytes. */
export function grpcFrame(message: Uint8Array): Uint8Array {
  const frame = Buffer.alloc(5 + message.length);
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, 5);
  return frame;
}

/** `count` callers on one HTTP/2 connection; an answer is a success when its trailers have `grpc-status: 0`. */
export async function grpcCallers(url: string, request: RawRequest, count: number): Promise<OpenCaller[]> {
  const session = connectHttp2(url);
  await new Promise((resolve, reject) => session.once('connect', resolve).once('error', reject));
  const headers = { ...request.headers, ':path': request.path, ':method': 'POST', te: 'trailers' };
  const call: Caller = () =>
    new Promise((resolve, reject) => {
      const stream = session.request(headers);
      let status: unknown;
      const note = (fields: Record<string, unknown>) => {
        status = fields['grpc-status'] ?? status;
      };
      stream.on('response', note).on('trailers', note).on('error', reject).resume();
      stream.on('close', () => {
        if (status === '0' && stream.rstCode === constants.NGHTTP2_NO_ERROR) resolve();
        else reject(new Error(`gRPC status ${String(status)}, reset ${stream.rstCode}`));
      });
      stream.end(request.body);
    });
  return Array.from({ length: count }, () => ({ call, close: () => session.close() }));
}
