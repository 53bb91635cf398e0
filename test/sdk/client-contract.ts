/** What the SDK promises on each transport, against any running server. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { LoramuxClient as FetchClient } from '../../sdk/index.js';
import * as sdk from '../../sdk/node.js';
import { eventually } from '../rpc/start-server.js';
import type { ContractServer } from '../rpc/transport-contract.js';

type AnyClient = FetchClient | sdk.LoramuxClient;

/** One client for each way to reach the server. */
export const CLIENTS: Readonly<Record<string, (baseUrl: string) => AnyClient>> = {
  fetch: (baseUrl) => new FetchClient({ baseUrl }),
  grpc: (baseUrl) => new sdk.LoramuxClient({ baseUrl, protocol: 'grpc' }),
  connect: (baseUrl) => new sdk.LoramuxClient({ baseUrl, protocol: 'connect' }),
  'connect-h1': (baseUrl) => new sdk.LoramuxClient({ baseUrl, protocol: 'connect-h1' }),
};

const endless = { inputs: 'on and on', parameters: { maxNewTokens: 400, ignoreEos: true } };

/** Defines the tests for every client. */
export function clientContract(label: string, start: () => Promise<ContractServer>): void {
  for (const [name, connect] of Object.entries(CLIENTS)) {
    describe(`SDK over ${name}, ${label}`, () => {
      let server: ContractServer;
      let client: AnyClient;
      before(async () => {
        server = await start();
        client = connect(server.baseUrl);
      });
      after(async () => {
        if ('close' in client) client.close();
        await server.close();
      });
      const idle = (): Promise<void> => eventually(async () => (await server.activeRows()) === 0, 'no row is left');

      it('answers each input from the adapter that it picks, in whatever form it is written', async () => {
        const [first, second] = server.adapters;
        const { results, requestId } = await client.predict({
          inputs: [
            'default',
            { text: 'base', adapter: null },
            { text: 'base', adapter: [] },
            { text: 'one', adapter: second },
            { text: 'mix', adapter: [{ name: first, weight: -0.5 }, second] },
            { text: 'long', parameters: { maxNewTokens: 3 } },
            [1, 2],
            { tokenIds: [1, 2, 3] },
          ],
          adapter: first,
          parameters: { maxNewTokens: 2, ignoreEos: true },
        });
        const applied = results.map(({ receipt }) => receipt.adapters.map((a) => `${a.name}*${a.weight}`).join('+'));
        const byDefault = `${first}*1`;
        const mix = `${first}*-0.5+${second}*1`;
        assert.deepEqual(applied, [byDefault, '', '', `${second}*1`, mix, byDefault, byDefault, byDefault]);
        assert.deepEqual(
          results.map(({ usage }) => usage.completionTokens),
          [2, 2, 2, 2, 2, 3, 2, 2],
        );
        assert.equal(results[0]!.finishReason, 'length');
        assert.equal(results[0]!.receipt.requestId, requestId);
        assert.ok(requestId.length > 0);
      });

      it('takes a text, or a list of them, for a request', async () => {
        assert.equal((await client.predict('one')).results.length, 1);
        const { results, text } = await client.predict(['one', 'two']);
        assert.equal(results.length, 2);
        assert.equal(text, results[0]!.text);
      });

      it('gives tokens and log-probabilities on request', async () => {
        const ask = { inputs: 'one', parameters: { maxNewTokens: 2, ignoreEos: true } };
        assert.deepEqual((await client.predict(ask)).results[0]!.tokens, []);
        const { tokens } = (await client.predict({ ...ask, returnTokens: true })).results[0]!;
        assert.equal(tokens.length, 2);
        assert.equal(tokens[0]!.logprob, undefined);
        const scored = await client.predict({ ...ask, parameters: { ...ask.parameters, logprobs: 1 } });
        assert.equal(typeof scored.results[0]!.tokens[1]!.logprob, 'number');
        assert.equal(scored.results[0]!.tokens[1]!.top.length, 1);
      });

      it('streams texts that join to the result', async () => {
        const stream = client.stream({ inputs: 'one two', parameters: { maxNewTokens: 5, ignoreEos: true } });
        let joined = '';
        for await (const text of stream.text()) joined += text;
        const result = await stream.finalResult();
        assert.equal(joined, result.text);
        assert.equal(stream.partialText(), joined);
        assert.equal(stream.requestId, result.receipt.requestId);
      });

      it('streams several inputs, each with its own final event', async () => {
        const stream = client.stream({ inputs: ['one', 'two'], parameters: { maxNewTokens: 3, ignoreEos: true } });
        const finals = new Set<number>();
        for await (const event of stream) {
          assert.equal(finals.has(event.inputIndex), false);
          if (event.type === 'final') finals.add(event.inputIndex);
        }
        assert.equal(finals.size, 2);
        assert.equal((await stream.finalResults()).length, 2);
        await assert.rejects(stream.finalResult(), TypeError);
        assert.throws(() => stream.text(), TypeError);
      });

      it('reads the whole answer when only the result is asked for', async () => {
        const stream = client.stream({ inputs: 'one', parameters: { maxNewTokens: 5, ignoreEos: true } });
        const first = await stream[Symbol.asyncIterator]().next();
        assert.equal(first.done, false);
        const result = await stream.finalResult();
        assert.equal(result.usage.completionTokens, 5);
        assert.equal(await stream.finalText(), result.text);
      });

      const leave: Record<string, (stream: sdk.TokenStream) => Promise<void>> = {
        break: async (stream) => {
          for await (const _ of stream) break;
        },
        'break out of text()': async (stream) => {
          for await (const _ of stream.text()) break;
        },
        'an exception': async (stream) => {
          const looping = (async () => {
            for await (const _ of stream) throw new Error('mine');
          })();
          await assert.rejects(looping, { message: 'mine' });
        },
        'abort()': async (stream) => {
          const looping = (async () => {
            for await (const _ of stream) stream.abort();
          })();
          await assert.rejects(looping, sdk.AbortedError);
        },
        disposal: async (stream) => {
          await stream[Symbol.asyncIterator]().next();
          await stream[Symbol.asyncDispose]();
        },
        'leaving both sides of tee()': async (stream) => {
          const [a, b] = stream.tee();
          for await (const _ of a) break;
          assert.ok((await server.activeRows()) > 0, 'one side goes on');
          for await (const _ of b) break;
        },
      };
      for (const [how, act] of Object.entries(leave)) {
        it(`stops the work on the server by ${how}`, async () => {
          const stream = client.stream(endless);
          await act(stream);
          await idle();
          await assert.rejects(stream.finalResult(), (error) => {
            assert.ok(error instanceof sdk.AbortedError);
            assert.ok(error.requestId, 'it had answered');
            assert.equal(error.requestId, stream.requestId);
            return true;
          });
        });
      }

      it('stops the work when the signal of the call aborts', async () => {
        const controller = new AbortController();
        const stream = client.stream(endless, { signal: controller.signal });
        const looping = (async () => {
          for await (const _ of stream) controller.abort();
        })();
        await assert.rejects(looping, sdk.AbortedError);
        await assert.rejects(client.predict(endless, { signal: controller.signal }), sdk.AbortedError);
        await idle();
      });

      it('meets its deadline and keeps what came before', async () => {
        await assert.rejects(client.predict(endless, { timeoutMs: 80 }), sdk.DeadlineError);
        const stream = client.stream(endless, { timeoutMs: 80 });
        await assert.rejects(stream.finalResult(), sdk.DeadlineError);
        await idle();
      });

      it('takes any budget of time, also one of fractions and one that has no end', async () => {
        for (const timeoutMs of [60_000.5, 1e8, 2 ** 31 - 1, 2 ** 31, 1e15, Number.POSITIVE_INFINITY]) {
          const { text } = await client.predict({ inputs: 'one', parameters: { maxNewTokens: 2 } }, { timeoutMs });
          assert.notEqual(text, '', `${timeoutMs}`);
        }
      });

      it('tells a value that a field cannot hold as an invalid request', async () => {
        for (const maxNewTokens of [1.5, -1, 2 ** 40, 5n as never]) {
          const refused = client.predict({ inputs: 'one', parameters: { maxNewTokens } });
          await assert.rejects(refused, (error: sdk.LoramuxError) => {
            assert.equal(error.constructor.name, 'InvalidRequestError', `${maxNewTokens}: ${error.message}`);
            return error.reason === 'INVALID_REQUEST' && error.code === 'invalid_argument';
          });
        }
      });

      it('sends no value of another type than its field, which would be taken as something else', async () => {
        const wrong: Record<string, object> = {
          'inputs\\[1\\]\\.text': { inputs: ['one', { text: 5 }] },
          'inputs\\[0\\]\\.chat\\.messages\\[0\\]\\.content': {
            inputs: [{ messages: [{ role: 'user', content: [{ type: 'text', text: 'one' }] }] }],
          },
          'parameters\\.ignoreEos': { inputs: 'one', parameters: { ignoreEos: 'false' } },
          'parameters\\.maxNewTokens': { inputs: 'one', parameters: { maxNewTokens: '2' } },
          'inputs\\[0\\]\\.parameters\\.stop': { inputs: [{ text: 'one', parameters: { stop: [5] } }] },
        };
        for (const [field, request] of Object.entries(wrong)) {
          for (const call of [
            () => client.predict(request as never),
            () => client.stream(request as never).finalResults(),
          ])
            await assert.rejects(call(), { name: 'InvalidRequestError', message: new RegExp(`^${field}: `) });
        }
        const pinned = client.adapters.create({ name: 'new', source: 'somewhere', pin: 'false' as never });
        await assert.rejects(pinned, { name: 'InvalidRequestError', message: /^pin: / });
      });

      it('takes no map or list for an object of names', async () => {
        for (const logitBias of [new Map([[1, -100]]), [[1, -100]], 'x'] as never[])
          await assert.rejects(client.predict({ inputs: 'one', parameters: { logitBias } }), TypeError);
        for (const options of [new Map([['a', 'b']]), ['a'], 'a'] as never[]) {
          await assert.rejects(client.adapters.create({ name: 'new', source: 'somewhere', options }), TypeError);
          await assert.rejects(client.adapters.update(server.adapters[0]!, { options }), TypeError);
        }
      });

      it('shows both sides of tee() the same events', async () => {
        const stream = client.stream({ inputs: 'one', parameters: { maxNewTokens: 4, ignoreEos: true } });
        const collect = async (events: AsyncIterable<sdk.StreamEvent>) => {
          const all: sdk.StreamEvent[] = [];
          for await (const event of events) all.push(event);
          return all;
        };
        const [a, b] = (await Promise.all(stream.tee().map(collect))) as [sdk.StreamEvent[], sdk.StreamEvent[]];
        assert.deepEqual(a, b);
        assert.equal(a.at(-1)?.type, 'final');
      });

      it('refuses a second iteration', async () => {
        const stream = client.stream({ inputs: 'one', parameters: { maxNewTokens: 2 } });
        for await (const _ of stream);
        assert.throws(() => stream[Symbol.asyncIterator](), /consumed already/);
      });

      it('throws errors by class, with a request id, from calls and streams', async () => {
        const ask = { inputs: 'one', adapter: 'nobody' };
        for (const call of [() => client.predict(ask), () => client.stream(ask).finalResult()]) {
          await assert.rejects(call(), (error) => {
            assert.ok(error instanceof sdk.AdapterNotFoundError);
            assert.equal(error.reason, 'ADAPTER_NOT_REGISTERED');
            assert.equal(error.metadata.adapter, 'nobody');
            assert.ok(error.requestId);
            return true;
          });
        }
        await assert.rejects(client.predict({ inputs: 'a', model: 'nothing' }), sdk.ModelNotFoundError);
        await assert.rejects(client.predict({ inputs: 'a', parameters: { topP: 3 } }), (error) => {
          assert.ok(error instanceof sdk.InvalidRequestError);
          assert.equal(error.violations[0]!.field, 'parameters.top_p');
          return true;
        });
        await assert.rejects(client.adapters.get('nobody'), sdk.AdapterNotFoundError);
      });

      it('lists adapters as a page, as items, and as an array', async () => {
        const page = await client.adapters.list({ pageSize: 1 });
        assert.equal(page.items.length, 1);
        assert.notEqual(page.nextPageToken, '');
        const names: string[] = [];
        for await (const { name } of client.adapters.list({ pageSize: 1 })) names.push(name);
        assert.deepEqual(names, [...names].sort());
        for (const adapter of server.adapters) assert.ok(names.includes(adapter));
        const all = await client.adapters.list().toArray();
        assert.deepEqual(
          all.map(({ name }) => name),
          names,
        );
        assert.ok(all[0]!.createTime instanceof Date);
        assert.equal(typeof all[0]!.weightBytes, 'number');
      });
    });
  }
}
