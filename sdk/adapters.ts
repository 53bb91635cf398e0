import type { Client, CallOptions as ConnectCallOptions } from '@connectrpc/connect';
import type { AdapterService } from '../gen/loramux/v1/adapters_pb.js';
import type {
  Adapter,
  AdapterEvent,
  AdapterLogEntry,
  AdapterReport,
  CreateAdapterParams,
  UpdateAdapterParams,
} from './adapter-types.js';
import { AliasesResource } from './aliases.js';
import { VersionConflictError } from './errors.js';
import { fromAdapter, fromLogEntry, fromReport } from './from-adapter.js';
import { PagedList } from './pagination.js';
import type { CallOptions } from './types.js';
import { refuseEmpty, refuseNoRecord, refuseOthers } from './unknown-fields.js';
import { type WatchOptions, watchAdapters } from './watch.js';

/** Runs one call with the client's options: `idempotent` calls may be repeated after a broken connection. */
export type RunCall = <T>(
  options: CallOptions | undefined,
  idempotent: boolean,
  call: (options: ConnectCallOptions) => Promise<T>,
) => Promise<T>;

/** What `create` takes. */
const NEW = ['name', 'source', 'model', 'preload', 'pin', 'options', 'replace', 'expectedDigest', 'synchronous'];
/** What `update` takes. */
const CHANGE = ['model', 'source', 'digest', 'preload', 'pin', 'options', 'expectedDigest'];

/** `client.adapters`: the adapters of the served models. */
export class AdaptersResource {
  readonly #rpc: Client<typeof AdapterService>;
  readonly #run: RunCall;
  readonly #resolve: (options?: CallOptions) => WatchOptions;
  /** Names that lead to adapters. */
  readonly aliases: AliasesResource;

  constructor(rpc: Client<typeof AdapterService>, run: RunCall, resolve: (options?: CallOptions) => WatchOptions) {
    this.#rpc = rpc;
    this.#run = run;
    this.#resolve = resolve;
    this.aliases = new AliasesResource(rpc, run);
  }

  /** Lists by name: `await` gives a page, `for await` every adapter. */
  list(
    params: { model?: string; pageSize?: number; pageToken?: string } = {},
    options?: CallOptions,
  ): PagedList<Adapter> {
    refuseOthers(params, ['model', 'pageSize', 'pageToken'], 'params of list');
    const { model = '', pageSize = 0, pageToken: firstToken } = params;
    return new PagedList(async (pageToken) => {
      const request = { model, pageSize, pageToken };
      const page = await this.#run(options, true, (call) => this.#rpc.listAdapters(request, call));
      return { items: page.adapters.map(fromAdapter), nextPageToken: page.nextPageToken };
    }, firstToken);
  }

  /** Describes an adapter. Throws AdapterNotFoundError. */
  async get(name: string, params: { model?: string } = {}, options?: CallOptions): Promise<Adapter> {
    refuseOthers(params, ['model'], 'params of get');
    const request = { model: params.model ?? '', name };
    return fromAdapter((await this.#run(options, true, (call) => this.#rpc.getAdapter(request, call))).adapter);
  }

  /** Registers an adapter; it is usable when this returns. Throws AdapterExistsError, AdapterInvalidError. */
  async create(params: CreateAdapterParams, options?: CallOptions): Promise<Adapter> {
    refuseOthers(params, NEW, 'a new adapter');
    refuseNoRecord(params.options, 'options');
    refuseEmpty(params.expectedDigest);
    const { name, source, model = '', preload, pin, replace = false, expectedDigest = '', synchronous } = params;
    const request = {
      ...{ replace, expectedDigest },
      ...(synchronous !== undefined && { synchronous }),
      model,
      name,
      source,
      options: { ...params.options },
      ...(preload !== undefined && { preload }),
      ...(pin !== undefined && { pin }),
    };
    return fromAdapter((await this.#run(options, false, (call) => this.#rpc.createAdapter(request, call))).adapter);
  }

  /** Checks an adapter as `create` would, without registering it; its faults are in the report. */
  async validate(source: string, params: { model?: string } = {}, options?: CallOptions): Promise<AdapterReport> {
    refuseOthers(params, ['model'], 'params of validate');
    const request = { model: params.model ?? '', source };
    return fromReport(await this.#run(options, true, (call) => this.#rpc.validateAdapter(request, call)));
  }

  /**
   * Changes an adapter as a whole or not at all; the change is in effect when this returns. Answers that run end with
   * the version that they began with. Throws AdapterNotFoundError, VersionConflictError, AdapterInvalidError.
   */
  async update(name: string, params: UpdateAdapterParams, options?: CallOptions): Promise<Adapter> {
    refuseOthers(params, CHANGE, 'a change of an adapter');
    refuseNoRecord(params.options, 'options');
    refuseEmpty(params.expectedDigest);
    const { model = '', source, digest, preload, pin, expectedDigest = '' } = params;
    const request = {
      ...{ model, name, expectedDigest },
      options: { ...params.options },
      ...(source !== undefined && { source }),
      ...(digest !== undefined && { digest }),
      ...(preload !== undefined && { preload }),
      ...(pin !== undefined && { pin }),
    };
    return fromAdapter((await this.#run(options, false, (call) => this.#rpc.updateAdapter(request, call))).adapter);
  }

  /**
   * Goes back to the version before the present one; with `digest`, to that one. If others change the name meanwhile,
   * nothing happens: VersionConflictError.
   */
  async rollback(
    name: string,
    params: { model?: string; digest?: string } = {},
    options?: CallOptions,
  ): Promise<Adapter> {
    refuseOthers(params, ['model', 'digest'], 'a rollback');
    const { digest: now, versions } = await this.get(
      name,
      { ...(params.model !== undefined && { model: params.model }) },
      options,
    );
    const at = versions.findIndex(({ digest }) => digest === now);
    const digest = params.digest ?? versions[at - 1]?.digest;
    if (digest === undefined) {
      throw new VersionConflictError(`adapter ${name} has no version before the present one`, {
        ...{ reason: 'VERSION_NOT_FOUND', code: 'not_found' },
        metadata: { adapter: name, digest: now },
      });
    }
    return this.update(name, { ...params, digest, ...(now !== '' && { expectedDigest: now }) }, options);
  }

  /**
   * Every adapter as it is, a `synced` event, then every change, until the loop is left or `signal` aborts. A lost
   * connection is made again, from where it was lost; an event that says so comes as `synced`. It is tried for about half
   * a minute, or `maxRetries` times where that is given.
   */
  watch(
    params: { model?: string; resumeToken?: string } = {},
    options?: CallOptions,
  ): AsyncIterableIterator<AdapterEvent> {
    refuseOthers(params, ['model', 'resumeToken'], 'params of watch');
    return watchAdapters(this.#rpc, params, this.#resolve(options));
  }

  /** The log of changes, newest first: `await` gives a page, `for await` everything. */
  log(
    params: { model?: string; name?: string; pageSize?: number; pageToken?: string } = {},
    options?: CallOptions,
  ): PagedList<AdapterLogEntry> {
    refuseOthers(params, ['model', 'name', 'pageSize', 'pageToken'], 'params of log');
    const { model = '', name = '', pageSize = 0, pageToken: firstToken } = params;
    return new PagedList(async (pageToken) => {
      const request = { model, name, pageSize, pageToken };
      const page = await this.#run(options, true, (call) => this.#rpc.listAdapterEvents(request, call));
      return { items: page.events.map(fromLogEntry), nextPageToken: page.nextPageToken };
    }, firstToken);
  }

  /** Removes an adapter; answers that run with it are finished. Throws AdapterNotFoundError, VersionConflictError. */
  async delete(
    name: string,
    params: { model?: string; expectedDigest?: string } = {},
    options?: CallOptions,
  ): Promise<Adapter> {
    refuseOthers(params, ['model', 'expectedDigest'], 'a deletion');
    refuseEmpty(params.expectedDigest);
    const request = { model: params.model ?? '', name, expectedDigest: params.expectedDigest ?? '' };
    return fromAdapter((await this.#run(options, false, (call) => this.#rpc.deleteAdapter(request, call))).adapter);
  }
}
