/** Writes down that an engine does not move, and that it moves again: once each. */
import type { Logger } from 'pino';
import type { Engine } from '../engine/engine.js';

/** @param model the name under which the engine was loaded */
export function tellStalls(model: string, engine: Engine, log: Logger): void {
  let since: number | undefined;
  engine.onStall?.(() => {
    const { stalled } = engine;
    if (stalled !== undefined && since === undefined) {
      since = performance.now();
      log.error({ model }, `the engine does not move: ${stalled}; its requests ended, and others are refused`);
    } else if (stalled === undefined && since !== undefined) {
      const seconds = Math.round((performance.now() - since) / 100) / 10;
      since = undefined;
      log.info({ model, seconds }, 'the engine moves again: requests are taken');
    }
  });
}
