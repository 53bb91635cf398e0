/** What ended rows is told once of each row, also of those that have no answer. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { collect, setup, text } from './inference-run.js';

const THREE = { inputs: [text('a'), text('b'), text('c')], parameters: { maxNewTokens: 3, ignoreEos: true } };
const turn = () => new Promise((resolve) => setImmediate(resolve));

describe('the end of rows', () => {
  it('is told of those that were answered, whole or streamed, and of samples that were not the best', async () => {
    const { service, call, settled, ends } = setup();
    await service.predict(THREE, call());
    await collect(await service.stream(THREE, call()));
    await service.predict(
      { inputs: [text('a')], parameters: { ...THREE.parameters, temperature: 1, n: 1, bestOf: 3 } },
      call(),
    );
    await settled();
    assert.deepEqual(ends, new Array(9).fill('length'));
  });

  it('is told as cancelled where the caller left, and as nothing where no row began', async () => {
    const { service, call, settled, engine, ends } = setup();
    await assert.rejects(service.predict(THREE, call(AbortSignal.abort())));
    engine.running = false;
    const abort = new AbortController();
    const answer = service.predict(THREE, call(abort.signal));
    while (engine.rows < 3) await turn();
    abort.abort();
    await assert.rejects(answer);
    await settled();
    assert.deepEqual(ends, ['cancelled', 'cancelled', 'cancelled']);
  });

  it('keeps what ended a row before the request was cancelled', async () => {
    const { service, call, settled, ends } = setup();
    const abort = new AbortController();
    const inputs = [{ ...text('a'), parameters: { maxNewTokens: 1 } }, text('b')];
    const events = await service.stream(
      { inputs, parameters: { maxNewTokens: 200, ignoreEos: true } },
      call(abort.signal),
    );
    for await (const event of events) if (event.type === 'final') break;
    abort.abort();
    await settled();
    assert.deepEqual(ends, ['length', 'cancelled']);
  });

  it('is told as an error of every row of an engine that died', async () => {
    const { service, call, settled, engine, ends } = setup();
    engine.running = false;
    const answer = service.predict(THREE, call());
    while (engine.rows < 3) await turn();
    engine.die();
    await assert.rejects(answer);
    await settled();
    assert.deepEqual(ends, ['error', 'error', 'error']);
  });
});
