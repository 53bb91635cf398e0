/**
 * What every transport promises, written against a running server, so that the same tests can be run against a
 * server without a model and against the real one.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { Code, ConnectError, createClient, type Transport } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from '@connectrpc/connect-node';
import { BadRequestSchema, ErrorInfoSchema } from '../../gen/google/rpc/error_details_pb.js';
import { AdapterService } from '../../gen/loramux/v1/adapters_pb.js';
import { FinishReason, InferenceService } from '../../gen/loramux/v1/inference_pb.js';
import { eventually } from './start-server.js';

/** A server under test. */
export interface ContractServer {
  readonly baseUrl: string;
  /** Names of two registered adapters. */
  readonly adapters: readonly [string, string];
  /** Rows that are being generated. */
  activeRows(): number | Promise<number>;
  close(): Promise<void>;
}

const TRANSPORTS: Readonly<Record<string, (baseUrl: string) => Transport>> = {
  'Connect JSON over HTTP/1.1': (baseUrl) =>
    createConnectTransport({ baseUrl, httpVersion: '1.1', useBinaryFormat: false }),
  'Connect over HTTP/2': (baseUrl) => createConnectTransport({ baseUrl, httpVersion: '2' }),
  gRPC: (baseUrl) => createGrpcTransport({ baseUrl }),
  'gRPC-Web over HTTP/1.1': (baseUrl) => createGrpcWebTransport({ baseUrl, httpVersion: '1.1' }),
  'gRPC-Web over HTTP/2': (baseUrl) => createGrpcWebTransport({ baseUrl, httpVersion: '2' }),
};

async function rejection(promise: Promise<unknown>): Promise<ConnectError> {
  try {
    await promise;
  } catch (error) {
    return ConnectError.from(error);
  }
  throw new assert.AssertionError({ message: 'the call did not fail' });
}

/** Defines the tests for every transport. */
export function transportContract(label: string, start: () => Promise<ContractServer>): void {
  for (const [name, connect] of Object.entries(TRANSPORTS)) {
    describe(`${label}: ${name}`, () => {
      let server: ContractServer;
      let inference: ReturnType<typeof createClient<typeof InferenceService>>;
      let adapters: ReturnType<typeof createClient<typeof AdapterService>>;
      before(async () => {
        server = await start();
        const transport = connect(server.baseUrl);
        inference = createClient(InferenceService, transport);
        adapters = createClient(AdapterService, transport);
      });
      after(() => server.close());
      const idle = (): Promise<void> => eventually(async () => (await server.activeRows()) === 0, 'no row is left');
      const text = (value: string) => ({ prompt: { case: 'text' as const, value } });

      it('answers each input from its own adapter, in order', async () => {
        const [first, second] = server.adapters;
        let headers = new Headers();
        const { results } = await inference.predict(
          {
            inputs: [
              { ...text('one'), adapters: { case: 'adapter', value: second } },
              text('two'),
              { ...text('three'), adapters: { case: 'adapter', value: '' } },
              {
                ...text('four'),
                adapters: { case: 'selection', value: { adapters: [{ name: first, weight: 0.5 }, { name: second }] } },
              },
            ],
            defaultAdapters: { case: 'adapter', value: first },
            parameters: { maxNewTokens: 2, ignoreEos: true },
          },
          { headers: { 'x-request-id': 'my-request' }, onHeader: (received) => (headers = received) },
        );
        assert.deepEqual(
          results.map(({ inputIndex }) => inputIndex),
          [0, 1, 2, 3],
        );
        const applied = results.map(({ receipt }) => receipt!.adapters.map((a) => `${a.name}*${a.weight}`).join('+'));
        assert.deepEqual(applied, [`${second}*1`, `${first}*1`, '', `${first}*0.5+${second}*1`]);
        for (const { receipt, usage, finishReason } of results) {
          assert.match(receipt!.baseFingerprint, /^[0-9a-f]{64}$/);
          for (const { digest } of receipt!.adapters) assert.match(digest, /^[0-9a-f]{64}$/);
          assert.equal(receipt!.requestId, 'my-request');
          assert.equal(usage!.completionTokens, 2);
          assert.equal(finishReason, FinishReason.LENGTH);
        }
        assert.equal(headers.get('x-request-id'), 'my-request');
        assert.equal(headers.get('x-loramux-adapter')?.split(',').length, 4);
      });

      it('streams deltas that join to the final text, and one final event an input', async () => {
        const joined = ['', ''];
        const finals: string[] = [];
        let trailer: string | null = null;
        const stream = inference.streamPredict(
          {
            inputs: [text('one two'), { ...text('three'), adapters: { case: 'adapter', value: server.adapters[0] } }],
            parameters: { maxNewTokens: 6, ignoreEos: true },
            returnTokens: true,
          },
          { onTrailer: (trailers) => (trailer = trailers.get('x-loramux-adapter')) },
        );
        for await (const { inputIndex, event } of stream) {
          assert.equal(finals[inputIndex], undefined, 'nothing follows a final event');
          if (event.case === 'delta') joined[inputIndex] += event.value.text;
          else {
            finals[inputIndex] = event.value!.text;
            assert.equal(event.value!.tokens.length, 6);
          }
        }
        assert.deepEqual(finals, joined);
        assert.equal(finals.length, 2);
        assert.match(trailer ?? '', /^base, [^,]+@[0-9a-f]{16}$/);
      });

      it('stops the work when the client aborts a stream', async () => {
        const controller = new AbortController();
        const stream = inference.streamPredict(
          { inputs: [text('on and on')], parameters: { maxNewTokens: 400, ignoreEos: true } },
          { signal: controller.signal },
        );
        const error = await rejection(
          (async () => {
            for await (const _ of stream) controller.abort();
          })(),
        );
        assert.equal(error.code, Code.Canceled);
        await idle();
      });

      it('stops the work when the client aborts a call', async () => {
        const controller = new AbortController();
        const call = inference.predict(
          { inputs: [text('on and on')], parameters: { maxNewTokens: 400, ignoreEos: true } },
          { signal: controller.signal },
        );
        const failed = rejection(call);
        await eventually(async () => (await server.activeRows()) > 0, 'the row runs');
        controller.abort();
        assert.equal((await failed).code, Code.Canceled);
        await idle();
      });

      it('ends calls and streams at their deadline, and frees their rows', async () => {
        const request = { inputs: [text('on and on')], parameters: { maxNewTokens: 400, ignoreEos: true } };
        const call = await rejection(inference.predict(request, { timeoutMs: 60 }));
        assert.equal(call.code, Code.DeadlineExceeded);
        const stream = await rejection(
          (async () => {
            for await (const _ of inference.streamPredict(request, { timeoutMs: 60 }));
          })(),
        );
        assert.equal(stream.code, Code.DeadlineExceeded);
        await idle();
      });

      it('refuses an unknown adapter with a reason, on calls and streams, and generates nothing', async () => {
        const request = {
          inputs: [text('a'), { ...text('b'), adapters: { case: 'adapter', value: 'nobody' } as const }],
        };
        for (const call of [
          () => inference.predict(request),
          async () => {
            for await (const _ of inference.streamPredict(request)) assert.fail('an event came');
          },
        ]) {
          const error = await rejection(call());
          assert.equal(error.code, Code.NotFound);
          assert.match(error.rawMessage, /nobody/);
          const info = error.findDetails(ErrorInfoSchema)[0]!;
          assert.equal(info.reason, 'ADAPTER_NOT_REGISTERED');
          assert.equal(info.domain, 'loramux');
          assert.equal(info.metadata.adapter, 'nobody');
          assert.equal(info.metadata.request_id, error.metadata.get('x-request-id'));
        }
      });

      it('names every field that breaks a rule of the schema', async () => {
        const error = await rejection(
          inference.predict({ inputs: [{}, { ...text('a'), parameters: { topP: 2, minP: -1 } }] }),
        );
        assert.equal(error.code, Code.InvalidArgument);
        assert.equal(error.findDetails(ErrorInfoSchema)[0]?.reason, 'INVALID_REQUEST');
        const fields = error.findDetails(BadRequestSchema)[0]?.fieldViolations.map(({ field }) => field);
        assert.deepEqual(fields, ['inputs[0].prompt', 'inputs[1].parameters.top_p', 'inputs[1].parameters.min_p']);
        for (const field of fields ?? []) assert.ok(error.rawMessage.includes(field));
      });

      it('lists adapters in pages by name, and describes one', async () => {
        const names: string[] = [];
        let pageToken = '';
        do {
          const page = await adapters.listAdapters({ pageSize: 1, pageToken });
          assert.ok(page.adapters.length <= 1);
          names.push(...page.adapters.map((adapter) => adapter.name));
          pageToken = page.nextPageToken;
        } while (pageToken !== '');
        assert.deepEqual(names, [...names].sort());
        for (const adapter of server.adapters) assert.ok(names.includes(adapter));
        const { adapter } = await adapters.getAdapter({ name: server.adapters[0] });
        assert.equal(adapter?.name, server.adapters[0]);
        const error = await rejection(adapters.getAdapter({ name: 'nobody' }));
        assert.equal(error.findDetails(ErrorInfoSchema)[0]?.reason, 'ADAPTER_NOT_FOUND');
      });
    });
  }
}
