/** Adapters of all served models: managed, kept, watched, and leased to rows. */
import type { AdapterEntry } from '../adapters/adapter-entry.js';
import { realPathOf } from '../adapters/real-path.js';
import { AdapterRegistry } from '../adapters/registry.js';
import { sourcePath } from '../adapters/source.js';
import type { AdapterReport } from '../adapters/validate-adapter.js';
import { AppError } from '../errors.js';
import { isRemoteUri } from '../sources/source.js';
import { deleteAlias, findAlias, listAliases, resolveName, setAlias } from './adapter-aliases.js';
import { type AdapterServiceOptions, assembleCore } from './adapter-assembly.js';
import { type CodeOf, codeOfName } from './adapter-code.js';
import { type AdapterCore, type AdapterLog, findEntry, infoOf, notFound, registryOf } from './adapter-core.js';
import { createAdapter } from './adapter-create.js';
import { deleteAdapter } from './adapter-delete.js';
import { eventPage } from './adapter-events.js';
import { leaseSelections, type SelectionLease } from './adapter-leases.js';
import { type Leftovers, removeLeftovers } from './adapter-leftovers.js';
import { AdapterSync } from './adapter-sync.js';
import { updateAdapter } from './adapter-update.js';
import type { AdapterHealth } from './management.js';
import { modelGone } from './model-refusals.js';
import { pageOf } from './name-page.js';
import type { AdapterLeases, Patience } from './ports.js';
import type { ServedModel } from './served-models.js';
import type {
  AdapterInfo,
  AdapterSelection,
  AdapterService,
  AdapterWatchEvent,
  AliasInfo,
  CallContext,
  CreateAdapterRequest,
  SetAliasRequest,
  UpdateAdapterRequest,
} from './types.js';
import { untilLeft } from './until-left.js';

export type { AdapterLog, AdapterServiceOptions };

type OfModel = { readonly model?: string | undefined };
type OfName = OfModel & { readonly name: string };

/** Management and leases of the adapters of all models. */
export class Adapters implements AdapterService, AdapterLeases {
  private readonly served: Map<string, ServedModel>;
  private readonly registries: Map<string, AdapterRegistry>;
  private readonly core: AdapterCore;
  private readonly sync: AdapterSync;
  private readonly refresh: (model: string, name: string) => Promise<void>;

  constructor(options: AdapterServiceOptions) {
    this.served = new Map(options.models);
    this.registries = new Map(Array.from(options.models.keys(), (name) => [name, new AdapterRegistry()]));
    this.core = assembleCore(options, this.served, this.registries, (entry) => void this.sync.keepDigest(entry));
    this.sync = new AdapterSync(this.core);
    this.refresh = (model, name) => this.sync.refresh(model, name);
  }

  /** Bytes of adapter weights that the engines hold. */
  get residentBytes(): number {
    return this.core.residency.bytes;
  }

  /** How many watch. */
  get watchers(): number {
    return this.core.journal.watching;
  }

  /** Takes a model in that was loaded while the server runs; {@link open} brings its adapters. */
  addModel(name: string, model: ServedModel): void {
    this.served.set(name, model);
    this.registries.set(name, new AdapterRegistry());
  }

  /**
   * Forgets a model and all its adapters, which stay in the store. Rows that run keep their leases; the weights go with
   * the last of them.
   */
  removeModel(name: string): void {
    const registry = this.registries.get(name);
    this.served.delete(name);
    this.registries.delete(name);
    const aliases = [...(registry?.aliases() ?? [])];
    for (const entry of registry?.clear() ?? []) {
      this.core.loader.forget(entry);
      this.core.code?.forget(name, entry.name);
      this.core.journal.changed(name, entry.name);
    }
    for (const alias of aliases) this.core.journal.changed(name, alias.name);
  }

  /**
   * Registers what is stored for a model and the sub-folders of directories, and loads what is to be loaded while the
   * budget lasts; pinned ones first. Resolves when each is usable, or listed as failed with the reason.
   */
  async open(model: string, dirs: readonly string[]): Promise<readonly AdapterInfo[]> {
    const name = this.core.models.name(model);
    const entries = await this.sync.restore(name);
    for (const dir of dirs) entries.push(...(await this.sync.scan(name, dir)));
    await this.sync.load(entries);
    return entries.map((entry) => infoOf(this.core, entry));
  }

  /** {@link open} for one directory, without what is stored. */
  async loadDirectory(model: string, dir: string): Promise<readonly AdapterInfo[]> {
    const entries = await this.sync.scan(this.core.models.name(model), dir);
    await this.sync.load(entries);
    return entries.map((entry) => infoOf(this.core, entry));
  }

  async list(request: Parameters<AdapterService['list']>[0]): ReturnType<AdapterService['list']> {
    const models = request.model === undefined ? this.core.models.names() : [this.core.models.name(request.model)];
    const entries = models.flatMap((name) => [...registryOf(this.core, name).values()]);
    const page = pageOf(entries, ({ name, model }) => [name, model], request.pageSize, request.pageToken);
    return { adapters: page.items.map((entry) => infoOf(this.core, entry)), nextPageToken: page.nextPageToken };
  }

  /** How the adapters of a model are; undefined = it has none. */
  health(model: string): AdapterHealth | undefined {
    const { loader, residency } = this.core;
    const entries = [...(this.registries.get(model)?.values() ?? [])];
    if (entries.length === 0) return undefined;
    const usable = entries.filter(({ error }) => error === undefined);
    const loading = usable.filter((entry) => loader.isLoading(entry));
    const isThere = ({ pool, summary }: AdapterEntry) =>
      summary !== undefined && residency.bytesOf({ pool, digest: summary.digest }) > 0;
    return {
      registered: entries.length,
      ready: usable.filter((entry) => !loader.isLoading(entry) && isThere(entry)).length,
      loading: loading.length,
      failed: entries.flatMap(({ name, error }) => (error === undefined ? [] : [{ name, error }])),
    };
  }

  async get(request: OfName): Promise<AdapterInfo> {
    return infoOf(this.core, findEntry(this.core, this.core.models.name(request.model), request.name), true);
  }

  /** {@link get} once every change of the name that has begun is over. */
  async settled(request: OfName): Promise<AdapterInfo> {
    const model = this.core.models.name(request.model);
    return this.core.book.exclusive(model, request.name.normalize('NFC'), () => this.get({ ...request, model }));
  }

  async create(request: CreateAdapterRequest, call: CallContext): Promise<AdapterInfo> {
    const model = this.core.models.name(request.model);
    const there = this.registries.get(model)?.get(request.name.normalize('NFC'));
    if (request.replace === true && there !== undefined) {
      const { name, source, preload = true, pin = false, options = {}, expectedDigest } = request;
      return this.update({ model, name, source, preload, pin, options, expectedDigest }, call);
    }
    // What a name is expected to be was read from one that was there: it is gone, and must not come back by a late call.
    if (request.expectedDigest && there === undefined) throw notFound(this.core, model, request.name);
    return infoOf(this.core, await createAdapter(this.core, model, request, call), true);
  }

  /** What a source leads to: equal for two of one place, however they are spelled. */
  placeOf({ model, source }: { readonly model: string; readonly source: string }): string {
    if (isRemoteUri(source)) return source;
    return realPathOf(sourcePath(source, this.core.models.withLora(this.core.models.name(model)).modelDir));
  }

  async validate(request: OfModel & { source: string }, { signal }: CallContext): Promise<AdapterReport> {
    const model = this.core.models.name(request.model);
    const { modelDir, base, supportedFeatures, baseCheck, maxLoraRank: maxRank } = this.core.models.withLora(model);
    const { source } = request;
    const wanted = { source, kind: 'adapter', base: modelDir, roots: this.core.allowedRoots } as const;
    const opened = this.core.sources.open({ ...wanted, signal });
    const { path: folder, roots, release } = await untilLeft(opened, signal, (late) => late.release());
    const report = this.core.reader.validate({ folder, roots, supportedFeatures, maxRank, baseCheck }, base);
    report.finally(release).catch(() => {});
    return untilLeft(report, signal);
  }

  /** Deletes what workflows registered that are no longer there. */
  removeLeftovers(leftovers: Leftovers, call: CallContext): Promise<void> {
    return removeLeftovers(this.core, leftovers, call, this.refresh);
  }

  async update(request: UpdateAdapterRequest, call: CallContext): Promise<AdapterInfo> {
    const model = this.core.models.name(request.model);
    return infoOf(this.core, await updateAdapter(this.core, model, request, call, this.refresh), true);
  }

  async delete(
    request: OfName & { expectedDigest?: string | undefined; createdAt?: number },
    call: CallContext,
  ): Promise<AdapterInfo> {
    return deleteAdapter(this.core, this.core.models.name(request.model), request, call, this.refresh);
  }

  /** The code that answers for the name of an adapter, or of an alias of one; undefined = none. Throws INVALID_REQUEST. */
  codeOf(model: string, name: string): Promise<CodeOf | undefined> {
    return codeOfName(this.core, model, name);
  }

  watch(request: OfModel & { resumeToken?: string | undefined }, call: CallContext): AsyncIterable<AdapterWatchEvent> {
    const model = request.model === undefined ? undefined : this.core.models.name(request.model);
    const all = () =>
      [...this.registries].flatMap(([of, registry]) =>
        [...registry.values(), ...registry.aliases()].map(({ name }) => ({ model: of, name })),
      );
    const names = () => all().filter((one) => model === undefined || one.model === model);
    return this.core.journal.watch(model, request.resumeToken ?? '', names, call.signal);
  }

  async events(request: Parameters<AdapterService['events']>[0]): ReturnType<AdapterService['events']> {
    const model = request.model === undefined ? undefined : this.core.models.name(request.model);
    return eventPage(this.core.book.store, { ...request, model });
  }

  async listAliases(request: OfModel): Promise<readonly AliasInfo[]> {
    const models = request.model === undefined ? this.core.models.names() : [this.core.models.name(request.model)];
    return models.flatMap((model) => listAliases(this.core, model));
  }

  async getAlias(request: OfName): Promise<AliasInfo> {
    return findAlias(this.core, this.core.models.name(request.model), request.name);
  }

  async setAlias(request: SetAliasRequest, call: CallContext): Promise<AliasInfo> {
    return setAlias(this.core, this.core.models.name(request.model), request, call, this.refresh);
  }

  async deleteAlias(request: OfName, call: CallContext): Promise<AliasInfo> {
    return deleteAlias(this.core, this.core.models.name(request.model), request.name, call, this.refresh);
  }

  async acquire(
    given: string,
    selections: readonly AdapterSelection[],
    patience: Patience,
    engine?: object,
  ): Promise<readonly SelectionLease[]> {
    const model = this.core.models.name(given);
    if (engine !== undefined && this.served.get(model)!.engine !== engine) throw modelGone(model);
    if (selections.some((selection) => selection.length > 0)) this.core.models.withLora(model);
    const registry = registryOf(this.core, model);
    const resolve = (name: string) => resolveName(this.core, model, name);
    const names = { model, registry, resolve, log: this.core.log };
    return leaseSelections(names, this.core.loader, selections, patience);
  }

  /** Ends all watches: they would hold up a shutdown. */
  drain(): void {
    const message = 'the server is shutting down; watch again from the last resume token';
    this.core.journal.close(new AppError('SHUTTING_DOWN', message, { retryAfterMs: 5000 }));
  }

  /** Stops following the registry and ends the reading threads. The engines are not closed. */
  async close(): Promise<void> {
    await this.sync.close();
    await this.core.reader.close();
  }
}

/** Makes the adapter service of all models; {@link Adapters.open} brings what is stored and what lies in folders. */
export function createAdapterService(options: AdapterServiceOptions): Adapters {
  return new Adapters(options);
}
