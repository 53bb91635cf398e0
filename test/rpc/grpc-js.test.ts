import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { create, type DescMessage, fromBinary, type MessageShape, toBinary } from '@bufbuild/protobuf';
import { Client, credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import {
  PredictRequestSchema,
  PredictResponseSchema,
  StreamPredictRequestSchema,
  StreamPredictResponseSchema,
} from '../../gen/loramux/v1/inference_pb.js';
import { eventually, startServer, type TestServer } from './start-server.js';

const write =
  <D extends DescMessage>(desc: D) =>
  (message: MessageShape<D>) =>
    Buffer.from(toBinary(desc, message));
const read =
  <D extends DescMessage>(desc: D) =>
  (bytes: Buffer) =>
    fromBinary(desc, bytes);
const input = { prompt: { case: 'text' as const, value: 'on and on' } };

describe('the gRPC implementation @grpc/grpc-js', () => {
  let server: TestServer;
  let client: Client;
  before(async () => {
    server = await startServer();
    client = new Client(`${server.host}:${server.port}`, credentials.createInsecure());
  });
  after(async () => {
    client.close();
    await server.close();
  });

  const predict = (
    request: MessageShape<typeof PredictRequestSchema>,
    deadlineMs = 5000,
  ): Promise<MessageShape<typeof PredictResponseSchema>> =>
    new Promise((resolve, reject) => {
      client.makeUnaryRequest(
        '/loramux.v1.InferenceService/Predict',
        write(PredictRequestSchema),
        read(PredictResponseSchema),
        request,
        new Metadata(),
        { deadline: Date.now() + deadlineMs },
        (error, response) => (error ? reject(error) : resolve(response!)),
      );
    });
  const stream = (maxNewTokens: number) =>
    client.makeServerStreamRequest(
      '/loramux.v1.InferenceService/StreamPredict',
      write(StreamPredictRequestSchema),
      read(StreamPredictResponseSchema),
      create(StreamPredictRequestSchema, { inputs: [input], parameters: { maxNewTokens } }),
    );

  it('gets an answer', async () => {
    const request = create(PredictRequestSchema, {
      inputs: [{ ...input, adapters: { case: 'adapter', value: 'pirate' } }],
      parameters: { maxNewTokens: 3 },
    });
    const { results } = await predict(request);
    assert.equal(results[0]!.text, '[pirate] on and');
  });

  it('gets the code and the details of an error', async () => {
    const request = create(PredictRequestSchema, { inputs: [input], model: 'other' });
    await assert.rejects(predict(request), (error: ServiceError) => {
      assert.equal(error.code, status.NOT_FOUND);
      assert.ok(error.metadata.get('grpc-status-details-bin').length > 0);
      return true;
    });
  });

  it('reads a message with any characters as it was written', async () => {
    const model = 'a/b; c, d: 100% e=f&g+h? @i #j é 🦜';
    await assert.rejects(predict(create(PredictRequestSchema, { inputs: [input], model })), (error: ServiceError) => {
      assert.ok(error.details.includes(model), error.details);
      return true;
    });
  });

  it('meets its deadline', async () => {
    const request = create(PredictRequestSchema, { inputs: [input], parameters: { maxNewTokens: 1000 } });
    await assert.rejects(predict(request, 60), (error: ServiceError) => error.code === status.DEADLINE_EXCEEDED);
    await eventually(() => server.services.activeRows() === 0, 'the row is freed');
  });

  it('reads a stream to its end', async () => {
    const events: string[] = [];
    for await (const { event } of stream(4)) events.push(event.case);
    assert.deepEqual(events, ['delta', 'delta', 'delta', 'delta', 'final']);
  });

  it('stops the work when it cancels a stream', async () => {
    const call = stream(1000);
    const ended = new Promise<ServiceError>((resolve) => call.once('error', resolve));
    call.once('data', () => call.cancel());
    call.resume();
    assert.equal((await ended).code, status.CANCELLED);
    await eventually(() => server.services.activeRows() === 0, 'the row is freed');
    const record = server.records.at(-1)!;
    assert.equal(record.code, 'canceled');
  });
});
