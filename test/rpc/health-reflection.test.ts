import assert from 'node:assert/strict';
import { getEventListeners, once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import { createFileRegistry, fromBinary } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import { Code, ConnectError, createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { Health, HealthCheckResponse_ServingStatus as Status } from '../../gen/grpc/health/v1/health_pb.js';
import { ServerReflection as V1 } from '../../gen/grpc/reflection/v1/reflection_pb.js';
import { ServerReflection as V1Alpha } from '../../gen/grpc/reflection/v1alpha/reflection_pb.js';
import { HEALTH_SERVICES } from '../../server/rpc/routes.js';
import { eventually, startServer, type TestServer } from './start-server.js';

describe('health', () => {
  it('tells the state of the server and of each service', async () => {
    const server = await startServer();
    const client = createClient(Health, createGrpcTransport({ baseUrl: server.baseUrl }));
    for (const service of ['', ...HEALTH_SERVICES]) {
      assert.equal((await client.check({ service })).status, Status.SERVING);
    }
    assert.equal(Object.keys((await client.list({})).statuses).length, 5);
    await assert.rejects(client.check({ service: 'x' }), (error: ConnectError) => error.code === Code.NotFound);
    server.health.drain();
    assert.equal((await client.check({})).status, Status.NOT_SERVING);
    server.health.ready();
    assert.equal((await client.check({})).status, Status.NOT_SERVING, 'there is no way back from draining');
    await server.close();
  });

  it('tells a watcher of the shutdown and then lets it go', async () => {
    const server = await startServer();
    const client = createClient(Health, createGrpcTransport({ baseUrl: server.baseUrl }));
    const seen: Status[] = [];
    const error = await (async () => {
      for await (const { status } of client.watch({})) {
        seen.push(status);
        server.health.drain();
      }
    })().catch((thrown) => ConnectError.from(thrown));
    assert.deepEqual(seen, [Status.SERVING, Status.NOT_SERVING]);
    assert.equal(error?.code, Code.Unavailable);
    await server.close();
  });

  it('forgets a watcher that leaves', async () => {
    const server = await startServer();
    const client = createClient(Health, createGrpcTransport({ baseUrl: server.baseUrl }));
    const controller = new AbortController();
    const watching = (async () => {
      for await (const { status } of client.watch({ service: 'x' }, { signal: controller.signal })) {
        assert.equal(status, Status.SERVICE_UNKNOWN);
        controller.abort();
      }
    })();
    await assert.rejects(watching, (error: ConnectError) => error.code === Code.Canceled);
    await server.close(5000); // would wait for a watcher that is still there
  });
});

for (const Reflection of [V1, V1Alpha] as readonly (typeof V1)[]) {
  describe(`reflection ${Reflection.typeName}`, () => {
    let server: TestServer;
    let client: ReturnType<typeof createClient<typeof V1>>;
    before(async () => {
      server = await startServer();
      client = createClient(Reflection, createGrpcTransport({ baseUrl: server.baseUrl }));
    });
    after(() => server.close());

    type Request =
      NonNullable<Parameters<typeof client.serverReflectionInfo>[0]> extends AsyncIterable<infer R> ? R : never;
    const ask = async (...requests: NonNullable<Request['messageRequest']>[]) => {
      const answers = [];
      const stream = client.serverReflectionInfo(
        (async function* () {
          for (const messageRequest of requests) yield { messageRequest } as Request;
        })(),
      );
      for await (const { messageResponse } of stream) answers.push(messageResponse);
      return answers;
    };
    const files = async (symbol: string) => {
      const [answer] = await ask({ case: 'fileContainingSymbol', value: symbol });
      if (answer?.case !== 'fileDescriptorResponse') throw new Error(`${symbol}: ${JSON.stringify(answer)}`);
      return answer.value.fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes));
    };

    it('lists the services', async () => {
      const [answer] = await ask({ case: 'listServices', value: '' });
      const names = answer?.case === 'listServicesResponse' ? answer.value.service.map(({ name }) => name) : [];
      assert.deepEqual(names.sort(), [
        'grpc.health.v1.Health',
        'grpc.reflection.v1.ServerReflection',
        'grpc.reflection.v1alpha.ServerReflection',
        'loramux.v1.AdapterService',
        'loramux.v1.InferenceService',
        'loramux.v1.ModelService',
        'loramux.v1.WorkflowService',
      ]);
    });

    it('gives a closed set of files for every symbol, with the comments of ours', async () => {
      for (const symbol of [
        'loramux.v1.InferenceService',
        'loramux.v1.InferenceService.Predict',
        'loramux.v1.GenerationParameters',
        'loramux.v1.GenerationParameters.top_p',
        'loramux.v1.AdapterState',
        'loramux.v1.Adapter',
        'loramux.v1.ModelService.RegisterModel',
        'loramux.v1.WorkflowTemplate',
        'google.rpc.ErrorInfo',
        'google.rpc.BadRequest.FieldViolation',
        'grpc.health.v1.Health',
        'buf.validate.field',
      ]) {
        const file = await files(symbol);
        // The file that was asked for comes first; a missing import would throw.
        const registry = createFileRegistry(file[0]!, (path) => file.find(({ name }) => name === path));
        assert.ok([...registry].length > 0);
        if (symbol.startsWith('loramux')) {
          const ours = file.find(({ name }) => name.startsWith('loramux/'));
          assert.ok(ours?.sourceCodeInfo?.location.some(({ leadingComments }) => leadingComments));
        }
      }
    });

    it('keeps nothing of a stream that has ended, or that its client has left', async () => {
      const kept = () => getEventListeners(server.health.draining, 'abort').length;
      await ask({ case: 'listServices', value: '' });
      const leaving = new AbortController();
      const open = client.serverReflectionInfo(
        (async function* () {
          yield { messageRequest: { case: 'listServices', value: '' } } as Request;
          await once(leaving.signal, 'abort');
        })(),
        { signal: leaving.signal },
      );
      await assert.rejects(async () => {
        for await (const _ of open) {
          assert.equal(kept(), 1);
          leaving.abort();
        }
      });
      await eventually(() => kept() === 0, 'the stream is forgotten');
    });

    it('answers several questions on one stream, and says what it does not know', async () => {
      const answers = await ask(
        { case: 'fileByFilename', value: 'loramux/v1/inference.proto' },
        { case: 'fileByFilename', value: 'nothing.proto' },
        { case: 'fileContainingSymbol', value: 'loramux.v1.Nothing' },
        {
          case: 'fileContainingExtension',
          value: { containingType: 'google.protobuf.FieldOptions', extensionNumber: 1159 } as never,
        },
        { case: 'allExtensionNumbersOfType', value: 'google.protobuf.FieldOptions' },
        { case: 'allExtensionNumbersOfType', value: 'nothing' },
      );
      assert.deepEqual(
        answers.map((answer) => answer.case),
        [
          'fileDescriptorResponse',
          'errorResponse',
          'errorResponse',
          'fileDescriptorResponse',
          'allExtensionNumbersResponse',
          'errorResponse',
        ],
      );
    });
  });
}
