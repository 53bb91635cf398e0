import type { Client, CallOptions as ConnectCallOptions } from '@connectrpc/connect';
import type { AdapterService } from '../gen/loramux/v1/adapters_pb.js';
import { fromAdapter, fromReport } from './from-message.js';
import { PagedList } from './pagination.js';
import type { Adapter, AdapterReport, CallOptions, CreateAdapterParams } from './types.js';

/** Runs one call with the client's options: `idempotent` calls may be repeated after a broken connection. */
export type RunCall = <T>(
  options: CallOptions | undefined,
  idempotent: boolean,
  call: (options: ConnectCallOptions) => Promise<T>,
) => Promise<T>;

/** `client.adapters`: the adapters of the served models. */
export class AdaptersResource {
  readonly #rpc: Client<typeof AdapterService>;
  readonly #run: RunCall;

  constructor(rpc: Client<typeof AdapterService>, run: RunCall) {
    this.#rpc = rpc;
    this.#run = run;
  }

  /** Lists by name: `await` gives a page, `for await` every adapter. */
  list(
    params: { model?: string; pageSize?: number; pageToken?: string } = {},
    options?: CallOptions,
  ): PagedList<Adapter> {
    const { model = '', pageSize = 0, pageToken: firstToken } = params;
    return new PagedList(async (pageToken) => {
      const request = { model, pageSize, pageToken };
      const page = await this.#run(options, true, (call) => this.#rpc.listAdapters(request, call));
      return { items: page.adapters.map(fromAdapter), nextPageToken: page.nextPageToken };
    }, firstToken);
  }

  /** Describes an adapter. Throws AdapterNotFoundError. */
  async get(name: string, params: { model?: string } = {}, options?: CallOptions): Promise<Adapter> {
    const request = { model: params.model ?? '', name };
    return fromAdapter((await this.#run(options, true, (call) => this.#rpc.getAdapter(request, call))).adapter);
  }

  /** Registers an adapter; it is usable when this returns. Throws AdapterExistsError, AdapterInvalidError. */
  async create(params: CreateAdapterParams, options?: CallOptions): Promise<Adapter> {
    const { name, source, model = '', preload, pin } = params;
    const request = {
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
    const request = { model: params.model ?? '', source };
    return fromReport(await this.#run(options, true, (call) => this.#rpc.validateAdapter(request, call)));
  }

  /** Removes an adapter; answers that run with it are finished. Throws AdapterNotFoundError. */
  async delete(name: string, params: { model?: string } = {}, options?: CallOptions): Promise<Adapter> {
    const request = { model: params.model ?? '', name };
    return fromAdapter((await this.#run(options, false, (call) => this.#rpc.deleteAdapter(request, call))).adapter);
  }
}
