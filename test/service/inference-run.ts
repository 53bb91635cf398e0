/** The real inference service over a model in memory, and what tests look at in its answers. */
import assert from 'node:assert/strict';
import { createInferenceService, type InferenceLimits } from '../../server/service/inference-service.js';
import { createModelService } from '../../server/service/model-service.js';
import type { RowEnd } from '../../server/service/request-run.js';
import type { PredictEvent, PredictInput, PredictResult } from '../../server/service/types.js';
import { CountedLeases, memoryModel } from './memory-model.js';

export function setup(limits: InferenceLimits = { maxInputs: 64 }) {
  const model = memoryModel();
  const leases = new CountedLeases();
  const models = new Map([[model.info.name, model]]);
  const ends: RowEnd[] = [];
  const service = createInferenceService({
    ...{ models, modelService: createModelService(models), leases, limits },
    ended: (_, end) => ends.push(end),
  });
  const call = (signal: AbortSignal = new AbortController().signal) => ({ requestId: 'test', signal });
  /** Waits until the engine has ended all rows, then checks that nothing is left. */
  const settled = async (): Promise<void> => {
    model.engine.resume();
    while (model.engine.rows > 0) await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(
      leases.releases.filter((count) => count !== 1),
      [],
      'every lease is released exactly once',
    );
  };
  return { model, models, engine: model.engine, leases, service, call, settled, ends };
}

export const text = (value: string): PredictInput => ({ prompt: { kind: 'text', text: value } });

/** What does not depend on when the row ran. */
export const comparable = ({ index: _, timings: __, ...rest }: PredictResult) => rest;

export async function collect(events: AsyncIterable<PredictEvent>): Promise<PredictEvent[]> {
  const all: PredictEvent[] = [];
  for await (const event of events) all.push(event);
  return all;
}

/** Text and tokens of an input as its deltas give them. */
export function joined(events: readonly PredictEvent[], index: number) {
  const deltas = events.filter((event) => event.index === index && event.type === 'delta');
  return {
    text: deltas.map((event) => (event.type === 'delta' ? event.text : '')).join(''),
    tokens: deltas.flatMap((event) => (event.type === 'delta' ? event.tokens : [])),
  };
}
