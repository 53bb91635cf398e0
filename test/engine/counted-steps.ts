/** A backend's decode steps, counted by what they handed out. */
import type { StepBackend } from '../../server/engine/backend.js';

/** Steps that handed out the largest logits only, and whole logits. */
export interface StepsTaken {
  largest: number;
  logits: number;
}

/** @param withLargest false: as a backend that only knows whole logits */
export function counted<B extends StepBackend>(backend: B, withLargest: boolean): { backend: B; steps: StepsTaken } {
  const steps: StepsTaken = { largest: 0, logits: 0 };
  const proxy = new Proxy(backend, {
    get: (target, name) => {
      const value: unknown = Reflect.get(target, name, target);
      if (name === 'decodeGreedy' && !withLargest) return undefined;
      if (name === 'largest' && !withLargest) return undefined;
      if (typeof value !== 'function') return value;
      return (...args: unknown[]) => {
        if (name === 'decodeGreedy') steps.largest += 1;
        if (name === 'decode') steps.logits += 1;
        return value.apply(target, args);
      };
    },
  });
  return { backend: proxy, steps };
}
