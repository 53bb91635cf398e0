/** The adapter half of an engine: keeps books, answers in a later turn, and fails when something is done out of order. */
import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import type { BoundAdapter } from '../../server/adapters/types.js';
import type { Engine } from '../../server/engine/engine.js';
import { AppError } from '../../server/errors.js';

export class MemoryEngine implements Engine {
  readonly alive = true;
  readonly loaded = new Map<string, number>();
  /** Bytes from the moment a load is asked for until its unload is done. */
  bytes = 0;
  peakBytes = 0;
  loads = 0;
  unloads = 0;
  /** Digests whose next load fails. */
  readonly failing = new Set<string>();
  /** Called when content is about to go. */
  onUnload: (digest: string) => void = () => {};
  private readonly busy = new Set<string>();

  async load(adapter: BoundAdapter): Promise<void> {
    assert.ok(!this.loaded.has(adapter.digest) && !this.busy.has(adapter.digest), 'loaded twice');
    this.busy.add(adapter.digest);
    this.bytes += adapter.bytes;
    this.peakBytes = Math.max(this.peakBytes, this.bytes);
    await turn();
    this.busy.delete(adapter.digest);
    if (this.failing.delete(adapter.digest)) {
      this.bytes -= adapter.bytes;
      throw new AppError('ENGINE_FAILED', 'the engine has stopped');
    }
    this.loads += 1;
    this.loaded.set(adapter.digest, adapter.bytes);
  }

  async unload(digest: string): Promise<void> {
    const bytes = this.loaded.get(digest);
    assert.ok(bytes !== undefined && !this.busy.has(digest), 'unloaded what is not loaded');
    this.onUnload(digest);
    this.busy.add(digest);
    await turn();
    this.busy.delete(digest);
    this.loaded.delete(digest);
    this.bytes -= bytes;
    this.unloads += 1;
  }

  submit(): never {
    throw new Error('no rows here');
  }

  stats(): never {
    throw new Error('no steps here');
  }

  async close(): Promise<void> {}
}
