/** Answers whose failures tell fields by the names that the caller wrote, however late they come. */
import { renameFields } from './renamed-fields.js';
import type { InferenceService, PredictEvent } from './types.js';

/** The same service for one form of request. @param rename as of {@link renameFields} */
export function renamedInference(inference: InferenceService, rename: (field: string) => string): InferenceService {
  const fail = (thrown: unknown): never => {
    throw renameFields(thrown, rename);
  };
  return {
    predict: (request, call) => inference.predict(request, call).catch(fail),
    async stream(request, call) {
      const events = await inference.stream(request, call).catch(fail);
      return { [Symbol.asyncIterator]: () => renamed(events[Symbol.asyncIterator](), fail) };
    },
  };
}

/** Passes calls on as they come, so that leaving the stream reaches the service at once. */
function renamed(source: AsyncIterator<PredictEvent>, fail: (thrown: unknown) => never): AsyncIterator<PredictEvent> {
  return {
    next: () => source.next().catch(fail),
    async return(value?: unknown) {
      return (await source.return?.(value)) ?? { done: true, value: undefined };
    },
  };
}
