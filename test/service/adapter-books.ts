/** An adapter service that reads in the test's own thread, over an engine that keeps books, with adapters on the disk. */
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { type AdapterReader, createAdapterReader } from '../../server/adapters/adapter-reader.js';
import { prepareAdapter } from '../../server/adapters/prepare-adapter.js';
import { validateAdapter } from '../../server/adapters/validate-adapter.js';
import { type Adapters, createAdapterService } from '../../server/service/adapter-service.js';
import type { CallContext } from '../../server/service/types.js';
import { pair, writeAdapter } from '../adapters/adapter-files.js';
import { GOLDEN, goldenBase } from '../adapters/golden-base.js';
import { MemoryEngine } from '../adapters/memory-engine.js';

/** Folder of the adapters. */
export const dir = mkdtempSync(join(tmpdir(), 'adapter-service-'));
/** A reader as the server has it. */
export const threads = createAdapterReader({ idleMs: 100 });
after(async () => {
  await threads.close();
  rmSync(dir, { recursive: true });
});
const base = await goldenBase('llama');
const FEATURES = new Set(['lora', 'rslora', 'rank_pattern', 'alpha_pattern']);
export const call = (signal = new AbortController().signal): CallContext => ({ requestId: 'test', signal });
export const forever = { signal: new AbortController().signal };
export const select = (...names: string[]) => [names.map((name) => ({ name, weight: 1 }))];

/** Reads in this thread and counts; otherwise the real thing. */
function inThread(): AdapterReader & { reads: number } {
  return {
    reads: 0,
    async read(request, on) {
      this.reads += 1;
      return prepareAdapter(request, on);
    },
    validate: validateAdapter,
    async close() {},
  };
}

export interface Setup {
  readonly service: Adapters;
  readonly engine: MemoryEngine;
  readonly reader: AdapterReader & { reads: number };
  readonly logged: string[];
}

export function setup(
  byteBudget?: number,
  options: { loraEnabled?: boolean; reader?: AdapterReader; roomWaitMs?: number } = {},
): Setup {
  const engine = new MemoryEngine();
  const reader = inThread();
  const logged: string[] = [];
  const write = (_: object, message: string) => void logged.push(message);
  const service = createAdapterService({
    models: new Map([
      ['m', { base, engine, modelDir: dir, loraEnabled: options.loraEnabled ?? true, supportedFeatures: FEATURES }],
    ]),
    allowedRoots: [dir, GOLDEN],
    byteBudget,
    log: { info: write, warn: write },
    reader: options.reader ?? reader,
    // Without patience, a refusal shows at once what finds no room.
    roomWaitMs: options.roomWaitMs ?? 0,
    // All adapters cost the same to load again, so that only their use decides who leaves.
    now: () => 0,
  });
  return { service, engine, reader, logged };
}

/** Adapters `a0`, `a1`, ... of 1536 bytes each, with different weights; `twin` has those of `a0`. */
export const BYTES = 2 * 2 * (48 + 48) * 4;
for (let i = 0; i < 5; i += 1) writeAdapter(join(dir, `a${i}`), {}, 1 + i);
cpSync(join(dir, 'a0'), join(dir, 'twin'), { recursive: true });
/** Of half as many bytes. */
writeAdapter(join(dir, 'half'), {
  config: { r: 1 },
  tensors: {
    ...pair('model.layers.0.self_attn.q_proj', 1, 48, 48),
    ...pair('model.layers.1.self_attn.q_proj', 1, 48, 48),
  },
});
writeAdapter(join(dir, 'broken'), { tensors: pair('model.layers.0.self_attn.q_proj', 2, 48, 48) });

/** Lets releases and unloads settle. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 6; i += 1) await turn();
}
