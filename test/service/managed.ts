/** The real adapter service over an engine that keeps books, with adapters `a0` to `a4` of equal size on the disk. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import type { AdapterReader } from '../../server/adapters/adapter-reader.js';
import { prepareAdapter } from '../../server/adapters/prepare-adapter.js';
import { validateAdapter } from '../../server/adapters/validate-adapter.js';
import { type Adapters, createAdapterService } from '../../server/service/adapter-service.js';
import type { CallContext } from '../../server/service/types.js';
import { writeAdapter } from '../adapters/adapter-files.js';
import { goldenBase } from '../adapters/golden-base.js';
import { MemoryEngine } from '../adapters/memory-engine.js';

/** Folder of the adapters; sources relative to it are their names. */
export const dir = mkdtempSync(join(tmpdir(), 'loramux-managed-'));
after(() => rmSync(dir, { recursive: true, force: true }));
for (let i = 0; i < 5; i += 1) writeAdapter(join(dir, `a${i}`), {}, 1 + i);

/** Bytes of each. */
export const BYTES = 2 * 2 * (48 + 48) * 4;

const base = await goldenBase('llama');

export const call = (actor = 'tester'): CallContext => ({
  requestId: 'test',
  signal: new AbortController().signal,
  actor,
});
export const forever = { signal: new AbortController().signal };
export const select = (...names: string[]) => [names.map((name) => ({ name, weight: 1 }))];

/** Lets releases and unloads settle. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 8; i += 1) await turn();
}

/** Waits until a condition holds; for what happens in a later turn. */
export async function until(condition: () => Promise<boolean>): Promise<void> {
  for (let turns = 0; !(await condition()); turns += 1) {
    assert.ok(turns < 1000, 'it never happens');
    await settle();
  }
}

export interface Managed {
  readonly service: Adapters;
  readonly engine: MemoryEngine;
  /** How many folders were read. */
  readonly reads: () => number;
  /** Awaited before every reading. */
  hold: Promise<void>;
}

/** Model `m`, or the one named. */
export function managed(
  options: { model?: string } & Partial<
    Pick<Parameters<typeof createAdapterService>[0], 'store' | 'byteBudget' | 'random' | 'usersOf'>
  > = {},
): Managed {
  const engine = new MemoryEngine();
  let reads = 0;
  const reader: AdapterReader = {
    async read(request, on) {
      reads += 1;
      await result.hold;
      return prepareAdapter(request, on);
    },
    validate: validateAdapter,
    async close() {},
  };
  const { model = 'm', ...rest } = options;
  const served = { base, engine, modelDir: dir, loraEnabled: true, supportedFeatures: new Set(['lora']) };
  const service = createAdapterService({
    models: new Map([[model, served]]),
    allowedRoots: [dir],
    log: { info: () => {}, warn: () => {} },
    reader,
    ...rest,
  });
  const result: Managed = { service, engine, reads: () => reads, hold: Promise.resolve() };
  return result;
}
