/** A call of a method or service that there is not is UNIMPLEMENTED on every protocol, and says what there is. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { create, createFileRegistry, type DescService, type FileRegistry } from '@bufbuild/protobuf';
import { FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';
import { Code, type ConnectError, createClient, type Transport } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from '@connectrpc/connect-node';
import { Client, credentials, type ServiceError, status } from '@grpc/grpc-js';
import { ErrorInfoSchema } from '../../gen/google/rpc/error_details_pb.js';
import { findProgram } from './programs.js';
import { startServer, type TestServer } from './start-server.js';

/** Services that the server has not: one that has the name of ours but another method, and one of another name. */
function services(): { renamed: DescService; other: DescService } {
  const method = (name: string, serverStreaming: boolean) => ({
    name,
    inputType: '.loramux.v1.Nothing',
    outputType: '.loramux.v1.Nothing',
    serverStreaming,
  });
  const methods = [method('Guess', false), method('Guesses', true)];
  const file = {
    name: 'guess.proto',
    package: 'loramux.v1',
    syntax: 'proto3',
    messageType: [{ name: 'Nothing' }],
    service: [
      { name: 'InferenceService', method: methods },
      { name: 'GuessService', method: methods },
    ],
  };
  const registry: FileRegistry = createFileRegistry(create(FileDescriptorSetSchema, { file: [file] }));
  return {
    renamed: registry.getService('loramux.v1.InferenceService')!,
    other: registry.getService('loramux.v1.GuessService')!,
  };
}

const { renamed, other } = services();
const METHODS = /loramux\.v1\.InferenceService has no method "Guess(es)?"; it has Predict, StreamPredict/;
const SERVICES = /there is no service "loramux\.v1\.GuessService"; there are .*loramux\.v1\.AdapterService, /;

describe('a procedure that there is not', () => {
  let server: TestServer;
  before(async () => {
    server = await startServer();
  });
  after(() => server.close());

  const transports: Readonly<Record<string, () => Transport>> = {
    'Connect with JSON': () =>
      createConnectTransport({ baseUrl: server.baseUrl, httpVersion: '1.1', useBinaryFormat: false }),
    'Connect over HTTP/2': () => createConnectTransport({ baseUrl: server.baseUrl, httpVersion: '2' }),
    gRPC: () => createGrpcTransport({ baseUrl: server.baseUrl }),
    'gRPC-Web over HTTP/1.1': () => createGrpcWebTransport({ baseUrl: server.baseUrl, httpVersion: '1.1' }),
    'gRPC-Web over HTTP/2': () => createGrpcWebTransport({ baseUrl: server.baseUrl, httpVersion: '2' }),
  };
  for (const [name, connect] of Object.entries(transports)) {
    it(`is told over ${name}, calls and streams`, async () => {
      for (const [service, message] of [
        [renamed, METHODS],
        [other, SERVICES],
      ] as const) {
        const client = createClient(service, connect()) as unknown as {
          guess(request: object): Promise<object>;
          guesses(request: object): AsyncIterable<object>;
        };
        const read = async () => {
          for await (const _ of client.guesses({}));
        };
        for (const call of [() => client.guess({}), read]) {
          await assert.rejects(call, (error: ConnectError) => {
            assert.equal(error.code, Code.Unimplemented);
            assert.match(error.rawMessage, message);
            assert.equal(error.findDetails(ErrorInfoSchema)[0]?.reason, 'UNIMPLEMENTED');
            return true;
          });
        }
        const record = server.records.at(-1)!;
        assert.deepEqual([record.method, record.code], ['unknown', 'unimplemented']);
      }
    });
  }

  it('is told to @grpc/grpc-js, whatever the path looks like', async () => {
    const client = new Client(`${server.host}:${server.port}`, credentials.createInsecure());
    const asIs = (bytes: Buffer) => bytes;
    for (const path of ['/loramux.v1.InferenceService/Guess', '/models', '/a/b/c']) {
      const error = await new Promise<ServiceError | null>((resolve) => {
        client.makeUnaryRequest(path, asIs, asIs, Buffer.alloc(0), resolve);
      });
      assert.equal(error?.code, status.UNIMPLEMENTED, path);
      // That implementation leaves encoded what is reserved in URIs.
      assert.match(
        decodeURIComponent(error.details),
        path.startsWith('/loramux') ? METHODS : /is no procedure, which has the form/,
      );
    }
    client.close();
  });

  it('is told to the text form of gRPC-Web in base64', async () => {
    const answer = await fetch(`${server.baseUrl}/loramux.v1.GuessService/Guess`, {
      method: 'POST',
      headers: { 'content-type': 'application/grpc-web-text' },
      body: 'AAAAAAA=',
    });
    const frame = Buffer.from(await answer.text(), 'base64');
    assert.deepEqual([answer.status, frame.readUInt8(0)], [200, 0x80]);
    assert.match(frame.toString('latin1'), /grpc-status: 12\r\n/);
  });

  it('is told to curl in JSON, and other unknown paths are no matter of this surface', async () => {
    const path = `${server.baseUrl}/loramux.v1.InferenceService/Guess`;
    const posted = await fetch(path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{}' });
    for (const answer of [posted, await fetch(path)]) {
      assert.equal(answer.status, 501);
      const told = (await answer.json()) as { code: string; message: string };
      assert.equal(told.code, 'unimplemented');
      assert.match(told.message, METHODS);
    }
    for (const elsewhere of ['/models/a.b', '/predictions/a.b', '/a/b', '/a.b/c/d', '/x.tgz']) {
      const answer = await fetch(server.baseUrl + elsewhere, { method: 'POST', body: '{}' });
      assert.match(await answer.text(), /^no route/, elsewhere);
    }
  });

  const grpcurl = findProgram('grpcurl');
  it('is told by grpcurl', { skip: grpcurl === undefined && 'grpcurl is not installed' }, async () => {
    const target = `${server.host}:${server.port}`;
    await assert.rejects(
      promisify(execFile)(grpcurl!, ['-plaintext', target, 'loramux.v1.InferenceService/Guess']),
      /does not include a method named "Guess"/,
    );
  });
});
