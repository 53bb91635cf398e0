/** Adapters that a handler is told of. Where its model has no weights this is also their registry. */
import type { InputParts } from '../../sdk/handler-input.js';
import { checkAdapterName, nearNames } from '../adapters/adapter-names.js';
import { AppError } from '../errors.js';
import { pageOf } from '../service/name-page.js';
import type {
  AdapterInfo,
  AdapterPage,
  CallContext,
  CreateAdapterRequest,
  UpdateAdapterRequest,
} from '../service/types.js';
import { inputOf } from './adapter-input.js';
import type { HandlerFunction } from './messages.js';

/** The part of a host that is used. */
export interface AdapterHost {
  has(fn: HandlerFunction): boolean;
  call(fn: HandlerFunction, input: InputParts, call: CallContext): Promise<unknown>;
}

interface Registered {
  readonly request: CreateAdapterRequest;
  readonly createdAt: number;
  readonly updatedAt: number;
  /** Counts the changes. */
  readonly revision: number;
}

/** Adapters of one model, by name. */
export class HandlerAdapters {
  readonly #model: string;
  readonly #host: AdapterHost;
  readonly #adapters = new Map<string, Registered>();
  /** Names whose registration is on its way. */
  readonly #reserved = new Set<string>();

  constructor(model: string, host: AdapterHost) {
    this.#model = model;
    this.#host = host;
  }

  /** Input of every registration, in order: what a new thread of the handler must be told. */
  *registrations(): Iterable<InputParts> {
    for (const { request } of this.#adapters.values()) yield inputOf(request);
  }

  /** True where the handler was told of the name. */
  has(name: string): boolean {
    return this.#adapters.has(name);
  }

  /** How many there are. */
  get size(): number {
    return this.#adapters.size;
  }

  list(pageSize?: number, pageToken?: string): AdapterPage {
    const { items, nextPageToken } = pageOf(this.#infos(), ({ name, model }) => [name, model], pageSize, pageToken);
    return { adapters: items, nextPageToken };
  }

  /** Throws ADAPTER_NOT_FOUND. */
  get(name: string): AdapterInfo {
    const found = this.#adapters.get(name);
    if (found !== undefined) return this.#info(found);
    const near = nearNames(name, this.#adapters.keys());
    const hint = near.length > 0 ? `; near names: ${near.join(', ')}` : '';
    throw new AppError('ADAPTER_NOT_FOUND', `no adapter ${JSON.stringify(name)} is registered${hint}`, {
      metadata: { adapter: name, model: this.#model },
    });
  }

  /** Registers, once the handler has agreed. Throws INVALID_REQUEST, ADAPTER_EXISTS, and what the handler throws. */
  async create(request: CreateAdapterRequest, call: CallContext): Promise<AdapterInfo> {
    const checked = checkAdapterName(request.name);
    if ('wrong' in checked) throw new AppError('INVALID_REQUEST', `the name of the adapter ${checked.wrong}`);
    const { name } = checked;
    if (this.#adapters.has(name) || this.#reserved.has(name)) {
      throw new AppError('ADAPTER_EXISTS', `an adapter ${JSON.stringify(name)} is registered already`, {
        metadata: { adapter: name, model: this.#model },
      });
    }
    const named = { ...request, name };
    this.#reserved.add(name);
    try {
      await this.tell('registerAdapter', named, call);
    } finally {
      this.#reserved.delete(name);
    }
    const registered = firstOf(named);
    this.#adapters.set(name, registered);
    return this.#info(registered);
  }

  /** Changes fields, once the handler has agreed; those that are absent stay. Throws what the handler throws. */
  async update(change: UpdateAdapterRequest, call: CallContext): Promise<AdapterInfo> {
    this.get(change.name);
    if (change.digest !== undefined || change.expectedDigest !== undefined) {
      throw new AppError('INVALID_REQUEST', `adapters of model ${this.#model} have no digests: it has no weights`);
    }
    const before = this.#adapters.get(change.name)!;
    const request = merged(before.request, change);
    await this.tell('updateAdapter', request, call);
    const registered = { ...before, request, updatedAt: Date.now(), revision: before.revision + 1 };
    this.#adapters.set(change.name, registered);
    return this.#info(registered);
  }

  /**
   * Tells the handler of a change to an adapter whose weights are registered elsewhere; `change` makes it. The handler
   * learns of a failure by being told the former state again.
   */
  async updateAround<T>(request: UpdateAdapterRequest, call: CallContext, change: () => Promise<T>): Promise<T> {
    const before = this.#adapters.get(request.name);
    const after = merged(before?.request ?? { name: request.name, source: '' }, request);
    await this.tell('updateAdapter', after, call);
    try {
      const result = await change();
      this.note(after);
      return result;
    } catch (error) {
      if (before !== undefined) await this.tell('updateAdapter', before.request, call).catch(() => {});
      throw error;
    }
  }

  /**
   * Tells the handler that an adapter goes whose weights are registered elsewhere; `remove` takes those away. Where that is
   * refused, the handler is told the adapter again.
   * @param there what is known of the adapter
   */
  async deleteAround<T>(there: CreateAdapterRequest, call: CallContext, remove: () => Promise<T>): Promise<T> {
    const { name, source } = there;
    await this.tell('unregisterAdapter', { name, source }, call);
    try {
      const result = await remove();
      this.forget(name);
      return result;
    } catch (error) {
      await this.tell('registerAdapter', this.#adapters.get(name)?.request ?? there, call).catch(() => {});
      throw error;
    }
  }

  /** Forgets, once the handler has agreed. Throws ADAPTER_NOT_FOUND, and what the handler throws. */
  async delete(name: string, call: CallContext): Promise<AdapterInfo> {
    const info = this.get(name);
    await this.tell('unregisterAdapter', { name, source: '' }, call);
    this.#adapters.delete(name);
    return info;
  }

  /** Calls the handler's function, if it has it. */
  async tell(fn: HandlerFunction, request: CreateAdapterRequest, call: CallContext): Promise<void> {
    if (this.#host.has(fn)) await this.#host.call(fn, inputOf(request), call);
  }

  /** Notes an adapter whose weights are registered elsewhere, for new threads. */
  note(request: CreateAdapterRequest): void {
    this.#adapters.set(request.name, firstOf(request));
  }

  /** Forgets what was noted. */
  forget(name: string): void {
    this.#adapters.delete(name);
  }

  *#infos(): Iterable<AdapterInfo> {
    for (const registered of this.#adapters.values()) yield this.#info(registered);
  }

  #info({ request, createdAt, updatedAt, revision }: Registered): AdapterInfo {
    return {
      model: this.#model,
      name: request.name,
      digest: '',
      source: request.source,
      preload: request.preload ?? true,
      pin: request.pin ?? false,
      options: request.options ?? {},
      state: 'ready',
      ranks: [],
      scalings: [],
      targetModules: [],
      bytes: 0,
      features: [],
      warnings: [],
      runningRows: 0,
      createdAt,
      updatedAt,
      revision,
    };
  }
}

function firstOf(request: CreateAdapterRequest): Registered {
  const now = Date.now();
  return { request, createdAt: now, updatedAt: now, revision: 1 };
}

function merged(before: CreateAdapterRequest, change: UpdateAdapterRequest): CreateAdapterRequest {
  const { source = before.source, preload = before.preload, pin = before.pin, options = before.options } = change;
  return { ...before, source, preload, pin, options: { ...options, ...change.mergeOptions } };
}
