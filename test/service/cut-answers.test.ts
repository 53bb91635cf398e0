/** An answer that the server cuts short is an error, and never passes for the whole. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { PredictEvent } from '../../server/service/types.js';
import { setup, text } from './inference-run.js';

const LONG = { inputs: [text('a'), text('b')], parameters: { maxNewTokens: 100, ignoreEos: true } };
const turn = () => new Promise((resolve) => setImmediate(resolve));

describe('rows whose engine is closed before they are complete', () => {
  it('fail their request; of a model that was unregistered it is told that it is gone', async () => {
    for (const [unregistered, reason] of [
      [true, 'MODEL_NOT_FOUND'],
      [false, 'ENGINE_FAILED'],
    ] as const) {
      const { service, call, settled, engine, model, models, ends } = setup();
      const answer = service.predict(LONG, call());
      while (engine.steps < 5) await turn();
      if (unregistered) models.delete(model.info.name);
      const refused = assert.rejects(answer, { reason });
      await engine.close();
      await refused;
      await settled();
      assert.deepEqual(ends, ['cancelled', 'cancelled']);
    }
  });

  it('end their stream with the error, after what came before it', async () => {
    const { service, call, settled, engine, model, models } = setup();
    const events = await service.stream(LONG, call());
    const seen: PredictEvent[] = [];
    await assert.rejects(
      async () => {
        for await (const event of events) {
          seen.push(event);
          if (seen.length > 1) continue;
          models.delete(model.info.name);
          await engine.close();
        }
      },
      { reason: 'MODEL_NOT_FOUND', message: /unregistered/ },
    );
    assert.ok(seen.length > 0);
    assert.ok(seen.every(({ type }) => type === 'delta'));
    await settled();
  });
});
