/** Requests that end early, and streams. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { AppError, type ErrorReason } from '../../server/errors.js';
import { failsWith } from '../app-error.js';
import { collect, comparable, joined, setup, text } from './inference-run.js';

describe('aborting', () => {
  const reasons: [unknown, ErrorReason][] = [
    [undefined, 'CANCELED'],
    [new DOMException('too late', 'TimeoutError'), 'DEADLINE'],
    [Object.assign(new Error('deadline'), { name: 'ConnectError', code: 4 }), 'DEADLINE'],
    [Object.assign(new Error('gone'), { name: 'ConnectError', code: 1 }), 'CANCELED'],
    [new AppError('SHUTTING_DOWN', 'bye'), 'SHUTTING_DOWN'],
  ];

  for (const [reason, expected] of reasons) {
    it(`ends a running request with ${expected} for ${reason}`, async () => {
      const { service, call, engine, settled } = setup();
      engine.running = false;
      const abort = new AbortController();
      const answer = service.predict({ inputs: [text('a'), text('b')] }, call(abort.signal));
      while (engine.rows < 2) await new Promise((resolve) => setImmediate(resolve));
      abort.abort(reason);
      await assert.rejects(answer, failsWith(expected));
      await settled();
    });
  }

  it('before or while adapters are leased enqueues nothing', async () => {
    const { service, call, engine, leases, settled } = setup();
    await assert.rejects(service.predict({ inputs: [text('a')] }, call(AbortSignal.abort())), failsWith('CANCELED'));
    const abort = new AbortController();
    leases.meanwhile = () => abort.abort();
    await assert.rejects(service.stream({ inputs: [text('a')] }, call(abort.signal)), failsWith('CANCELED'));
    assert.equal(engine.submitted.length, 0);
    await settled();
  });

  it('ends a stream with the error', async () => {
    const { service, call, settled } = setup();
    const abort = new AbortController();
    const events = (await service.stream({ inputs: [text('a')] }, call(abort.signal)))[Symbol.asyncIterator]();
    await events.next();
    abort.abort();
    await assert.rejects(events.next(), failsWith('CANCELED'));
    assert.equal((await events.next()).done, true);
    await settled();
  });

  it('has no effect after the end', async () => {
    const { service, call, settled } = setup();
    const abort = new AbortController();
    const events = await service.stream({ inputs: [text('a')] }, call(abort.signal));
    await settled();
    abort.abort();
    assert.equal((await collect(events)).at(-1)!.type, 'final');
  });
});

describe('streams', () => {
  it('give the same as predict: deltas joined, then one final event for each input', async () => {
    const { service, call, settled } = setup();
    const request = {
      inputs: [text('a'), text('b'), text('c')],
      parameters: { maxNewTokens: 25, stop: ['e'], seed: 1 },
    };
    const expected = await service.predict(request, call());
    const events = await collect(await service.stream(request, call()));
    for (const [index, result] of expected.entries()) {
      const own = events.filter((event) => event.index === index);
      const last = own.at(-1)!;
      assert.ok(last.type === 'final');
      assert.equal(own.filter((event) => event.type === 'final').length, 1);
      assert.deepEqual(comparable(last.result), comparable(result));
      assert.deepEqual(joined(events, index), { text: result.text, tokens: result.tokens });
    }
    await settled();
  });

  it('join the deltas of a row that wait', async () => {
    const { service, call, settled } = setup();
    const stream = await service.stream({ inputs: [text('a'), text('b')], parameters: { ignoreEos: true } }, call());
    await settled();
    assert.deepEqual(
      (await collect(stream)).map(({ type, index }) => `${type} ${index}`),
      ['delta 0', 'delta 1', 'final 0', 'final 1'],
    );
  });

  it('cancel the rows when the reader leaves, also while it waits for an event', async () => {
    const { service, call, engine, settled } = setup();
    for await (const _ of await service.stream({ inputs: [text('a'), text('b')] }, call())) break;
    await settled();
    engine.running = false;
    const events = (await service.stream({ inputs: [text('a')] }, call()))[Symbol.asyncIterator]();
    const waiting = events.next();
    await events.return!();
    assert.deepEqual(await waiting, { done: true, value: undefined });
    await settled();
  });

  it('end with SLOW_CONSUMER when too much waits for the reader', async () => {
    const { service, call, engine, settled } = setup({ maxInputs: 64, maxWaitingTokens: 10 });
    const request = { inputs: [text('a'), text('b')], parameters: { maxNewTokens: 100, ignoreEos: true } };
    const stream = await service.stream(request, call());
    await settled();
    assert.ok(engine.steps < 20, 'the rows were cancelled');
    await assert.rejects(collect(stream), failsWith('SLOW_CONSUMER'));
  });

  it('fail with what the device said, and later requests are answered', async () => {
    const { service, call, engine, leases } = setup();
    engine.running = false;
    const stream = await service.stream({ inputs: [text('a'), text('b')] }, call());
    engine.failDevice('the graphics device was lost');
    await assert.rejects(collect(stream), { reason: 'DEVICE_FAILED', message: 'the graphics device was lost' });
    assert.deepEqual(leases.releases, [1, 1]);
    engine.resume();
    await service.predict({ inputs: [text('a')] }, call());
  });

  it('fail when the engine does not move; requests are refused until it does', async () => {
    const { service, call, engine, leases } = setup();
    engine.running = false;
    const stream = await service.stream({ inputs: [text('a'), text('b')] }, call());
    engine.stall('a step has not returned for 1 s');
    await assert.rejects(collect(stream), failsWith('ENGINE_STALLED'));
    assert.deepEqual(leases.releases, [1, 1]);
    await assert.rejects(service.predict({ inputs: [text('a')] }, call()), failsWith('ENGINE_STALLED'));
    engine.stall(undefined);
    engine.resume();
    await service.predict({ inputs: [text('a')] }, call());
  });

  it('fail when the engine dies, and later requests are refused', async () => {
    const { service, call, engine, leases } = setup();
    engine.running = false;
    const stream = await service.stream({ inputs: [text('a'), text('b')] }, call());
    engine.die();
    await assert.rejects(collect(stream), failsWith('ENGINE_FAILED'));
    assert.deepEqual(leases.releases, [1, 1]);
    await assert.rejects(service.predict({ inputs: [text('a')] }, call()), failsWith('ENGINE_FAILED'));
  });
});
