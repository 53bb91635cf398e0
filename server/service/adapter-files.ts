/** The files of registered adapters: brought to this machine, read, and held against what was registered. */

import { type AdapterEntry, digestOf } from '../adapters/adapter-entry.js';
import type { AdapterReader } from '../adapters/adapter-reader.js';
import { folderState } from '../adapters/file-state.js';
import type { ReadAdapter } from '../adapters/prepare-adapter.js';
import type { BoundAdapter } from '../adapters/types.js';
import { AppError } from '../errors.js';
import type { LocalSource, SourceResolver } from '../sources/source-resolver.js';
import { moduleOf } from './adapter-code.js';
import { modelOf, type ServedModel } from './served-models.js';

/** What files are read with. */
export interface FileParts {
  readonly models: ReadonlyMap<string, ServedModel>;
  readonly reader: AdapterReader;
  readonly sources: SourceResolver;
  /** Most bytes of an adapter's weights; infinite = no limit. */
  readonly residency: { readonly budget: number };
}

/** Who is told. */
export interface FileWatch {
  /** The entry came on. */
  readonly onChange?: ((entry: AdapterEntry) => void) | undefined;
  /** Nobody knew the entry's digest before; now its summary has it. */
  readonly onDigest?: ((entry: AdapterEntry) => void) | undefined;
}

/** Least time between two reports of a download's progress, in milliseconds. */
const REPORT_MS = 250;

/** Reads adapters' files. */
export class AdapterFiles {
  readonly #parts: FileParts;
  readonly #watch: FileWatch;

  constructor(parts: FileParts, watch: FileWatch) {
    this.#parts = parts;
    this.#watch = watch;
  }

  /**
   * Reads the entry's files and binds them to its model; then its summary is known.
   * @throws AppError of reading and binding, ADAPTER_INVALID where they are not what was registered
   */
  async read(entry: AdapterEntry): Promise<BoundAdapter> {
    const known = entry.snapshot;
    // Before the files are read: what is changed meanwhile is another state.
    if (entry.folder !== '') entry.folderState = await folderState(entry.folder);
    const local = await this.#fetch(entry);
    const { adapter, summary } = await this.#readFolder(entry, local).finally(() => local.release());
    const before = digestOf(entry);
    if (before !== '' && before !== summary.digest && known !== undefined) {
      // What the cache has is not what it had: it is fetched again, once.
      await this.#parts.sources.discard(known);
      entry.snapshot = undefined;
      return this.read(entry);
    }
    if (before !== '' && before !== summary.digest) {
      throw new AppError(
        'ADAPTER_INVALID',
        `its files have changed since it was registered (digest ${before}, now ${summary.digest}); ` +
          'put those back, or update it with this source to take the new ones as a new version',
      );
    }
    entry.summary = summary;
    entry.snapshot = local.snapshot;
    if (before === '') this.#watch.onDigest?.(entry);
    return adapter;
  }

  /** Brings the entry's files to this machine. */
  async #fetch(entry: AdapterEntry): Promise<LocalSource> {
    const { source, folder, roots, options, snapshot } = entry;
    const base = modelOf(this.#parts.models, entry).modelDir;
    let reported = 0;
    return this.#parts.sources.open({
      ...{ kind: 'adapter', base, roots, sha256: options.sha256, snapshot },
      source: entry.fromFolder ? folder : source,
      onProgress: ({ bytes, totalBytes }) => {
        entry.progress = { stage: 'fetch', doneBytes: bytes, totalBytes };
        const now = performance.now();
        if (now - reported < REPORT_MS) return;
        reported = now;
        this.#watch.onChange?.(entry);
      },
    });
  }

  async #readFolder(entry: AdapterEntry, { path: folder, roots }: LocalSource): Promise<ReadAdapter> {
    const { supportedFeatures, baseCheck, base, maxLoraRank: maxRank } = modelOf(this.#parts.models, entry);
    entry.progress = { stage: 'read', doneBytes: 0 };
    const { budget } = this.#parts.residency;
    const maxBytes = Number.isFinite(budget) ? budget : undefined;
    const wanted = { folder, roots, supportedFeatures, maxBytes, maxRank, baseCheck };
    const read = await this.#parts.reader.read(wanted, base);
    // Told of where the adapter is described; what cannot be looked at is no reason against the weights.
    await moduleOf(entry).catch(() => undefined);
    return read;
  }
}
