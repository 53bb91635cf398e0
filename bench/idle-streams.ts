/** Streams on which nothing happens: clients that watch adapters. */
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2';
import { connect, type Socket } from 'node:net';
import { create, toBinary } from '@bufbuild/protobuf';
import { WatchAdaptersRequestSchema } from '../gen/loramux/v1/adapters_pb.js';
import { grpcFrame } from './raw-callers.js';

/** Streams of one HTTP/2 connection; the server allows 256. */
const PER_CONNECTION = 250;

/** Opens gRPC streams of `WatchAdapters` on HTTP/2 connections; resolves when each had its first message. */
export async function openGrpcWatches(url: string, count: number): Promise<() => void> {
  const sessions: ClientHttp2Session[] = [];
  const body = grpcFrame(toBinary(WatchAdaptersRequestSchema, create(WatchAdaptersRequestSchema)));
  for (let opened = 0; opened < count; opened += PER_CONNECTION) {
    const session = connectHttp2(url);
    sessions.push(session);
    const streams = Array.from({ length: Math.min(PER_CONNECTION, count - opened) }, () => {
      const headers = { 'content-type': 'application/grpc', te: 'trailers' };
      const path = '/loramux.v1.AdapterService/WatchAdapters';
      const stream = session.request({ ':method': 'POST', ':path': path, ...headers });
      stream.end(body);
      return new Promise((resolve, reject) => stream.once('data', resolve).once('error', reject));
    });
    await Promise.all(streams);
  }
  return () => {
    for (const session of sessions) session.on('error', () => {}).destroy();
  };
}

/** Opens HTTP/1.1 connections, each with `GET /adapters?watch=true`; resolves when each had its first line. */
export async function openHttpWatches(url: string, count: number): Promise<() => void> {
  const { hostname, port, host } = new URL(url);
  const sockets: Socket[] = [];
  for (let opened = 0; opened < count; opened += PER_CONNECTION) {
    const opening = Array.from({ length: Math.min(PER_CONNECTION, count - opened) }, () => {
      const socket = connect(Number(port), hostname);
      sockets.push(socket);
      socket.write(`GET /adapters?watch=true HTTP/1.1\r\nhost: ${host}\r\n\r\n`);
      return new Promise((resolve, reject) => socket.once('data', resolve).once('error', reject));
    });
    await Promise.all(opening);
    for (const socket of sockets) socket.resume();
  }
  return () => {
    for (const socket of sockets) socket.on('error', () => {}).destroy();
  };
}
