/** A resolver with a cache of its own, quick to give up. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createSourceResolver, type SourceResolver } from '../../server/sources/source-resolver.js';
import type { SourceSettings } from '../../server/sources/source-settings.js';
import { writeAdapter } from '../adapters/adapter-files.js';

/** Settings for tests; what is given wins. */
export function settings(cacheDir: string, given: Partial<SourceSettings> = {}): SourceSettings {
  return {
    cacheDir,
    cacheBytes: 1e9,
    maxBytes: 1e8,
    allow: [],
    timeoutMs: 20_000,
    idleMs: 5000,
    s3: {},
    hub: { endpoint: 'http://127.0.0.1:9' },
    retry: { attempts: 3, baseMs: 1, maxMs: 5 },
    ...given,
  };
}

/** Temporary folders and resolvers of one test file. */
export class Sandbox {
  readonly dir = mkdtempSync(join(tmpdir(), 'sources-'));
  private readonly resolvers: SourceResolver[] = [];
  private folders = 0;

  folder(): string {
    this.folders += 1;
    return join(this.dir, String(this.folders));
  }

  resolver(given: Partial<SourceSettings> = {}, cacheDir = this.folder()): SourceResolver {
    const resolver = createSourceResolver(settings(cacheDir, given));
    this.resolvers.push(resolver);
    return resolver;
  }

  /** The files of an adapter. */
  adapter(seed = 1): { config: Buffer; weights: Buffer } {
    const folder = writeAdapter(this.folder(), {}, seed);
    return {
      config: readFileSync(join(folder, 'adapter_config.json')),
      weights: readFileSync(join(folder, 'adapter_model.safetensors')),
    };
  }

  async close(): Promise<void> {
    await Promise.all(this.resolvers.map((resolver) => resolver.close()));
    rmSync(this.dir, { recursive: true });
  }
}
