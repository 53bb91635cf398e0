/** What answered is told in one form: by REST and by every transport, in headers, trailers and bodies. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createClient } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from '@connectrpc/connect-node';
import { InferenceService, type PredictResult } from '../../gen/loramux/v1/inference_pb.js';
import { postForReceipt } from '../rest/http.js';
import { startServer } from '../rest/served.js';

const HEADER = 'x-loramux-adapter';

interface Used {
  readonly name: string;
  readonly digest: string;
  readonly weight: number;
  readonly resolved?: string | undefined;
}

/** The line that docs/compatibility.md promises for receipts as a body has them. */
function lineOf(receipts: readonly { readonly adapters: readonly Used[] }[]): string {
  const parts = receipts.map(({ adapters }) =>
    adapters.length === 0
      ? 'base'
      : adapters
          .map(({ name, digest, weight, resolved }) => {
            const led = resolved ? `=${encodeURIComponent(resolved)}` : '';
            return `${encodeURIComponent(name)}${led}@${digest.slice(0, 16)}${weight === 1 ? '' : `*${weight}`}`;
          })
          .join('+'),
  );
  return new Set(parts).size === 1 ? parts[0]! : parts.join(', ');
}

test('a receipt is the same on every surface', { timeout: 60_000 }, async (t) => {
  const url = await startServer(t, ['--log-level', 'error']);
  const alias = await fetch(`${url}/models/demo/aliases/live%20one`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ targets: [{ adapter: 'pirate' }] }),
  });
  assert.equal(alias.status, 200, await alias.text());

  const mixes: Readonly<Record<string, readonly (readonly { name: string; weight?: number }[])[]>> = {
    'inputs that differ': [[], [{ name: 'french' }], [{ name: 'french', weight: 0.5 }, { name: 'pirate' }]],
    'inputs that are alike': [[{ name: 'french' }], [{ name: 'french' }]],
    'the base alone': [[]],
    'an alias with a space': [[{ name: 'live one' }], []],
  };
  const transports = {
    connect: createConnectTransport({ baseUrl: url, httpVersion: '1.1' }),
    grpc: createGrpcTransport({ baseUrl: url }),
    'grpc-web': createGrpcWebTransport({ baseUrl: url, httpVersion: '1.1' }),
  };
  for (const [what, mix] of Object.entries(mixes)) {
    await t.test(what, async () => {
      const lines = new Map<string, string | null | undefined>();
      const ask = { inputs: mix.map(() => 'one'), adapters: mix, parameters: { max_new_tokens: 2, details: true } };
      const whole = await postForReceipt(`${url}/invocations`, ask);
      const answers = JSON.parse(whole.text) as { details: { receipt: { adapters: Used[] } } }[];
      const receipts = answers.map(({ details }) => details.receipt);
      lines.set('REST header', whole.header);
      lines.set('REST trailer', (await postForReceipt(`${url}/invocations`, { ...ask, stream: true })).trailer);
      lines.set('REST body', lineOf(receipts));
      const request = {
        inputs: mix.map((adapters) => ({
          prompt: { case: 'text' as const, value: 'one' },
          adapters: { case: 'selection' as const, value: { adapters: [...adapters] } },
        })),
        parameters: { maxNewTokens: 2 },
      };
      for (const [name, transport] of Object.entries(transports)) {
        const client = createClient(InferenceService, transport);
        const take = (kind: string) => (headers: Headers) => lines.set(`${name} ${kind}`, headers.get(HEADER));
        const { results } = await client.predict(request, { onHeader: take('header') });
        lines.set(`${name} body`, lineOf(results.map(({ receipt }) => receipt!)));
        assert.deepEqual(
          results.map(plain),
          receipts.map(({ adapters }) => adapters),
          name,
        );
        const finals: PredictResult[] = [];
        for await (const { event } of client.streamPredict(request, { onTrailer: take('trailer') })) {
          if (event.case === 'final') finals[event.value.inputIndex] = event.value;
        }
        lines.set(`${name} stream`, lineOf(finals.map(({ receipt }) => receipt!)));
      }
      assert.deepEqual(
        Object.fromEntries(lines),
        Object.fromEntries([...lines.keys()].map((key) => [key, lineOf(receipts)])),
      );
      assert.equal(lines.size, 15);
    });
  }
});

/** The adapters of a result as REST has them: what is not there is left out. */
const plain = ({ receipt }: PredictResult): Used[] =>
  receipt!.adapters.map(({ name, digest, weight, resolved }) => ({
    name,
    digest,
    weight,
    ...(resolved && { resolved }),
  }));
