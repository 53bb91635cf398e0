import type { Client } from '@connectrpc/connect';
import type { AdapterService } from '../gen/loramux/v1/adapters_pb.js';
import type { Alias, AliasTarget } from './adapter-types.js';
import type { RunCall } from './adapters.js';
import { fromAlias } from './from-adapter.js';
import type { CallOptions } from './types.js';
import { refuseOthers } from './unknown-fields.js';

/** `client.adapters.aliases`: names that lead to adapters. */
export class AliasesResource {
  readonly #rpc: Client<typeof AdapterService>;
  readonly #run: RunCall;

  constructor(rpc: Client<typeof AdapterService>, run: RunCall) {
    this.#rpc = rpc;
    this.#run = run;
  }

  /**
   * Makes a name lead to an adapter, to a version of one, or to several by shares: `set('live', 'fr')`,
   * `set('live', [{ adapter: 'fr', share: 95 }, { adapter: 'fr-next', share: 5 }])`. Throws AdapterExistsError where an
   * adapter has the name.
   */
  async set(
    name: string,
    to: string | AliasTarget | readonly AliasTarget[],
    params: { model?: string } = {},
    options?: CallOptions,
  ): Promise<Alias> {
    const targets = typeof to === 'string' ? [{ adapter: to }] : 'adapter' in to ? [to] : to;
    for (const target of targets) refuseOthers(target, ['adapter', 'digest', 'share'], 'a target of an alias');
    refuseOthers(params, ['model'], 'what an alias is set for');
    const request = {
      model: params.model ?? '',
      name,
      targets: targets.map(({ adapter, digest = '', share }) => ({
        ...{ adapter, digest },
        ...(share !== undefined && { share }),
      })),
    };
    return fromAlias((await this.#run(options, true, (call) => this.#rpc.setAlias(request, call))).alias);
  }

  /** Describes an alias. Throws AliasNotFoundError. */
  async get(name: string, params: { model?: string } = {}, options?: CallOptions): Promise<Alias> {
    refuseOthers(params, ['model'], 'params of get');
    const request = { model: params.model ?? '', name };
    return fromAlias((await this.#run(options, true, (call) => this.#rpc.getAlias(request, call))).alias);
  }

  /** All aliases, by name. */
  async list(params: { model?: string } = {}, options?: CallOptions): Promise<Alias[]> {
    refuseOthers(params, ['model'], 'params of list');
    const request = { model: params.model ?? '' };
    return (await this.#run(options, true, (call) => this.#rpc.listAliases(request, call))).aliases.map(fromAlias);
  }

  /** Removes an alias; the adapters stay. Throws AliasNotFoundError. */
  async delete(name: string, params: { model?: string } = {}, options?: CallOptions): Promise<Alias> {
    refuseOthers(params, ['model'], 'a deletion');
    const request = { model: params.model ?? '', name };
    return fromAlias((await this.#run(options, false, (call) => this.#rpc.deleteAlias(request, call))).alias);
  }
}
