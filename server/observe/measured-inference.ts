/** Measures every answered row whatever surface asked for it: a wrapper of the inference service. */
import type { InferenceService, ModelService, PredictEvent, PredictResult } from '../service/types.js';
import type { Metrics } from './metrics.js';

/** The same service, counted: tokens, queue time, first token, pace. */
export function measuredInference(
  inference: InferenceService,
  models: Pick<ModelService, 'resolve'>,
  metrics: Metrics,
): InferenceService {
  return {
    async predict(request, call) {
      const results = await inference.predict(request, call);
      for (const result of results) observe(metrics, result, 0);
      return results;
    },
    async stream(request, call) {
      const events = await inference.stream(request, call);
      const model = models.resolve(request.model).name;
      return { [Symbol.asyncIterator]: () => measured(events[Symbol.asyncIterator](), metrics, model) };
    },
  };
}

/** Passes calls on as they come, so that leaving the stream reaches the service at once. */
function measured(source: AsyncIterator<PredictEvent>, metrics: Metrics, model: string): AsyncIterator<PredictEvent> {
  const counted = new Map<string, number>();
  const see = (event: PredictEvent) => {
    const row = `${event.index}/${event.sample}`;
    if (event.type === 'final') {
      observe(metrics, event.result, counted.get(row) ?? 0);
      return;
    }
    counted.set(row, (counted.get(row) ?? 0) + event.tokens.length);
    // Counted as they come: a stream that is left early has no final event.
    metrics.generatedTokens.inc({ model }, event.tokens.length);
  };
  return {
    async next() {
      const step = await source.next();
      if (!step.done) see(step.value);
      return step;
    },
    async return(value?: unknown) {
      return (await source.return?.(value)) ?? { done: true, value: undefined };
    },
  };
}

/** @param counted generated tokens that were counted already */
function observe(metrics: Metrics, result: PredictResult, counted: number): void {
  const { model } = result.receipt;
  const { promptTokens, completionTokens } = result.usage;
  const { queueMs, prefillMs, decodeMs } = result.timings;
  metrics.promptTokens.inc({ model }, promptTokens);
  metrics.generatedTokens.inc({ model }, Math.max(0, completionTokens - counted));
  metrics.queueSeconds.observe({ model }, queueMs / 1000);
  if (completionTokens > 0) metrics.firstTokenSeconds.observe({ model }, (queueMs + prefillMs) / 1000);
  if (completionTokens > 1) metrics.interTokenSeconds.observe({ model }, decodeMs / 1000 / (completionTokens - 1));
}
