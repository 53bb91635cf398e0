/** Registering, finding and deleting adapters of all served models, and leasing them to rows. */
import { readdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { checkAdapterName } from '../adapters/adapter-names.js';
import { type AdapterReader, createAdapterReader } from '../adapters/adapter-reader.js';
import { type AdapterEntry, AdapterRegistry } from '../adapters/registry.js';
import { Residency, type ResidentLease } from '../adapters/residency.js';
import { openAdapterFolder, scanAdapterDirectory, sourcePath } from '../adapters/source.js';
import type { AdapterReport } from '../adapters/validate-adapter.js';
import { AppError } from '../errors.js';
import { adapterInfo } from './adapter-info.js';
import { canceled, leaseSelections, loadFailure, type SelectionLease } from './adapter-leases.js';
import { AdapterLoader } from './adapter-loader.js';
import { pageOf } from './adapter-page.js';
import type { AdapterLeases } from './ports.js';
import { type ServedModel, ServedModels } from './served-models.js';
import type { AdapterInfo, AdapterSelection, AdapterService, CallContext, CreateAdapterRequest } from './types.js';

/** The part of a logger that is used; pino's loggers have it. */
export interface AdapterLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

/** What the service is made of. */
export interface AdapterServiceOptions {
  /** The models at the start; {@link Adapters.addModel} adds more. */
  readonly models: ReadonlyMap<string, ServedModel>;
  /** The model of requests that name none; absent = the only one there is. */
  readonly defaultModel?: (() => string | undefined) | undefined;
  /** Folders that adapters may be registered from, links followed. */
  readonly allowedRoots: readonly string[];
  /** Most bytes of adapter weights in all engines together; default no limit. */
  readonly byteBudget?: number | undefined;
  readonly log: AdapterLog;
  /** How adapters are read; default: worker threads, two at a time. */
  readonly reader?: AdapterReader | undefined;
}

/** Adapters read at once while a directory is loaded. */
const DIRECTORY_LOADS = 2;

/** Management and leases of the adapters of all models. */
export class Adapters implements AdapterService, AdapterLeases {
  private readonly options: AdapterServiceOptions;
  private readonly served: Map<string, ServedModel>;
  private readonly models: ServedModels;
  private readonly registries: Map<string, AdapterRegistry>;
  private readonly residency: Residency;
  private readonly reader: AdapterReader;
  private readonly loader: AdapterLoader;

  constructor(options: AdapterServiceOptions) {
    this.options = options;
    this.served = new Map(options.models);
    this.models = new ServedModels(this.served, options.defaultModel);
    this.registries = new Map(Array.from(options.models.keys(), (name) => [name, new AdapterRegistry()]));
    this.residency = new Residency(options.byteBudget ?? Number.POSITIVE_INFINITY, (error) =>
      options.log.warn({ err: error }, 'unloading an adapter failed'),
    );
    this.reader = options.reader ?? createAdapterReader();
    this.loader = new AdapterLoader(this.served, this.reader, this.residency);
  }

  /** Bytes of adapter weights that the engines hold. */
  get residentBytes(): number {
    return this.residency.bytes;
  }

  /** Takes a model in that was loaded while the server runs; it has no adapters yet. */
  addModel(name: string, model: ServedModel): void {
    this.served.set(name, model);
    this.registries.set(name, new AdapterRegistry());
  }

  /** Forgets a model and all its adapters. Rows that run keep their leases; the weights go with the last of them. */
  removeModel(name: string): void {
    const registry = this.registries.get(name);
    this.served.delete(name);
    this.registries.delete(name);
    for (const entry of [...(registry?.values() ?? [])]) {
      registry!.remove(entry.name);
      this.loader.forget(entry);
    }
  }

  async list(request: Parameters<AdapterService['list']>[0]): ReturnType<AdapterService['list']> {
    const models = request.model === undefined ? this.models.names() : [this.models.name(request.model)];
    const entries = models.flatMap((name) => [...this.registry(name).values()]);
    const page = pageOf(entries, request.pageSize, request.pageToken);
    return { adapters: page.items.map((entry) => this.info(entry)), nextPageToken: page.nextPageToken };
  }

  async get(request: { model?: string | undefined; name: string }): Promise<AdapterInfo> {
    return this.info(this.find(this.models.name(request.model), request.name));
  }

  async create(request: CreateAdapterRequest, call: CallContext): Promise<AdapterInfo> {
    const model = this.models.name(request.model);
    const { modelDir } = this.models.withLora(model);
    const checked = checkAdapterName(request.name);
    if ('wrong' in checked) {
      const violations = [{ field: 'name', description: checked.wrong }];
      throw new AppError('INVALID_REQUEST', `the name of the adapter ${checked.wrong}`, { violations });
    }
    if (request.pin === true && request.preload === false) {
      const description = 'cannot be true where preload is false: pinned weights stay loaded';
      throw new AppError('INVALID_REQUEST', `pin ${description}`, { violations: [{ field: 'pin', description }] });
    }
    const { name } = checked;
    const registry = this.registry(model);
    if (!registry.reserve(name)) {
      throw new AppError('ADAPTER_EXISTS', `an adapter ${JSON.stringify(name)} is registered already`, {
        metadata: { adapter: name, model },
      });
    }
    try {
      const entry = this.entry(model, name, {
        source: request.source,
        folder: sourcePath(request.source, modelDir),
        roots: this.options.allowedRoots,
        preload: request.preload ?? true,
        pin: request.pin ?? false,
        options: { ...request.options },
      });
      if (call.signal.aborted) throw canceled(call.signal);
      let lease: ResidentLease | undefined;
      if (entry.preload) lease = await this.loader.lease(entry);
      else await openAdapterFolder(entry.folder, entry.roots);
      try {
        if (call.signal.aborted) throw canceled(call.signal);
        if (this.registries.get(model) !== registry) {
          throw new AppError('MODEL_NOT_FOUND', `model ${JSON.stringify(model)} was unregistered meanwhile`);
        }
        registry.add(entry);
        this.loader.retain(entry);
      } finally {
        lease?.release();
      }
      this.options.log.info({ model, adapter: name, digest: entry.summary?.digest }, 'adapter registered');
      return this.info(entry);
    } catch (thrown) {
      const error = AppError.from(thrown);
      throw new AppError(error.reason, `adapter ${JSON.stringify(name)}: ${error.message}`, {
        metadata: { ...error.metadata, adapter: name, model },
        violations: error.violations,
        ...(error.retryAfterMs === undefined ? {} : { retryAfterMs: error.retryAfterMs }),
        cause: thrown,
      });
    } finally {
      registry.unreserve(name);
    }
  }

  async validate(request: { model?: string | undefined; source: string }): Promise<AdapterReport> {
    const model = this.models.name(request.model);
    const { modelDir, base, supportedFeatures, baseCheck } = this.models.withLora(model);
    const folder = sourcePath(request.source, modelDir);
    return this.reader.validate({ folder, roots: this.options.allowedRoots, supportedFeatures, baseCheck }, base);
  }

  async delete(request: { model?: string | undefined; name: string }): Promise<AdapterInfo> {
    const model = this.models.name(request.model);
    const entry = this.find(model, request.name);
    const info = this.info(entry);
    this.registry(model).remove(entry.name);
    this.loader.forget(entry);
    this.options.log.info({ model, adapter: entry.name, runningRows: entry.runningRows }, 'adapter deleted');
    return { ...info, state: 'deleting' };
  }

  async acquire(
    model: string,
    selections: readonly AdapterSelection[],
    signal: AbortSignal,
  ): Promise<readonly SelectionLease[]> {
    const name = this.models.name(model);
    if (selections.some((selection) => selection.length > 0)) this.models.withLora(name);
    return leaseSelections(name, this.registry(name), this.loader, selections, signal);
  }

  /**
   * Registers every subfolder of a directory as an adapter of its name, and loads them while the budget lasts. Adapters
   * that fail are listed as failed with the reason; other entries are ignored with a warning.
   */
  async loadDirectory(model: string, dir: string): Promise<readonly AdapterInfo[]> {
    const name = this.models.name(model);
    const registry = this.registry(name);
    const { log } = this.options;
    const there = await readdir(dir).then(
      () => true,
      () => false,
    );
    if (!there) return [];
    const { names, ignored } = await scanAdapterDirectory(dir);
    for (const entry of ignored) log.warn({ model: name, dir, entry }, 'not an adapter folder: ignored');
    const entries: AdapterEntry[] = [];
    for (const folder of names) {
      const checked = checkAdapterName(folder);
      if ('wrong' in checked || !registry.reserve(checked.name)) {
        const why = 'wrong' in checked ? `its name ${checked.wrong}` : 'an adapter of that name is registered already';
        log.warn({ model: name, dir, entry: folder }, `adapter folder ignored: ${why}`);
        continue;
      }
      const path = resolve(dir, folder);
      const roots = [...this.options.allowedRoots, dir];
      const entry = this.entry(name, checked.name, { source: path, folder: path, roots, preload: true, pin: false });
      registry.add(entry);
      entries.push(entry);
    }
    const queue = [...entries];
    const work = async () => {
      for (let entry = queue.shift(); entry !== undefined; entry = queue.shift()) await this.loadAtStart(entry, dir);
    };
    await Promise.all(Array.from({ length: DIRECTORY_LOADS }, work));
    return entries.map((entry) => this.info(entry));
  }

  /** Ends the reading threads. The engines are not closed. */
  async close(): Promise<void> {
    await this.reader.close();
  }

  private async loadAtStart(entry: AdapterEntry, dir: string): Promise<void> {
    const { log } = this.options;
    const fields = { model: entry.model, adapter: entry.name, dir: join(dir, entry.name) };
    try {
      const lease = await this.loader.lease(entry, { evict: false });
      lease.release();
      for (const warning of entry.summary?.warnings ?? []) log.warn(fields, warning);
    } catch (thrown) {
      const error = loadFailure(entry, thrown);
      log.warn({ ...fields, err: error }, error.message);
    }
  }

  private entry(
    model: string,
    name: string,
    rest: Pick<AdapterEntry, 'source' | 'folder' | 'roots' | 'preload' | 'pin'> &
      Partial<Pick<AdapterEntry, 'options'>>,
  ): AdapterEntry {
    const pool = this.served.get(model)?.pool ?? model;
    const fresh = { createdAt: Date.now(), runningRows: 0, state: 'new', retained: false } as const;
    return { options: {}, ...rest, ...fresh, model, pool, name };
  }

  private registry(model: string): AdapterRegistry {
    return this.registries.get(model)!;
  }

  private find(model: string, name: string): AdapterEntry {
    const registry = this.registry(model);
    const entry = registry.get(name.normalize('NFC'));
    if (entry !== undefined) return entry;
    const near = registry.near(name);
    const hint = near.length === 0 ? '' : `; near names: ${near.map((one) => JSON.stringify(one)).join(', ')}`;
    throw new AppError('ADAPTER_NOT_FOUND', `no adapter ${JSON.stringify(name)} is registered${hint}`, {
      metadata: { adapter: name, model, ...(near.length > 0 ? { near: near.join(',') } : {}) },
    });
  }

  private info(entry: AdapterEntry): AdapterInfo {
    const { summary, pool } = entry;
    const bytes = summary === undefined ? 0 : this.residency.bytesOf({ pool, digest: summary.digest });
    return adapterInfo(entry, bytes, this.loader.isLoading(entry));
  }
}

/** Makes the adapter service of all models; start-up adapters are added with {@link Adapters.loadDirectory}. */
export function createAdapterService(options: AdapterServiceOptions): Adapters {
  return new Adapters(options);
}
