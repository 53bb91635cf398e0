/** Adapters that workflows have registered: several workflows may name one, which then goes with the last of them. */
import { AppError, type ErrorReason } from '../../errors.js';
import type { Leftovers } from '../adapter-leftovers.js';
import type { AdapterInfo, AdapterService, CallContext, CreateAdapterRequest } from '../types.js';

/** The part of adapter management that workflows need. */
export type WorkflowAdapters = Pick<AdapterService, 'create'> & {
  /** An adapter, once every change of its name that has begun is over: it may be going just now. */
  settled(adapter: { model: string; name: string }): Promise<AdapterInfo>;
  /** Two sources of one place are equal, however they are spelled. */
  placeOf(adapter: { model: string; source: string }): string;
  /** Deletes what was registered at that time; what a client has put in its place since is not found. */
  delete(adapter: { model: string; name: string; createdAt: number }, call: CallContext): Promise<unknown>;
  /** Deletes what workflows registered that are no longer there. */
  removeLeftovers(leftovers: Leftovers, call: CallContext): Promise<void>;
};

interface Claim {
  /** Ids of the workflows. */
  readonly users: Set<string>;
  /** When it was registered; undefined: by somebody else, and it stays. */
  createdAt: number | undefined;
  /** Settles when the registration is over. */
  ready: Promise<void>;
}

/** What a claim asks for; model and name identify it. */
export type ClaimRequest = CreateAdapterRequest & { readonly model: string };

/**
 * What is known of an adapter that is there: this workflow's `own`, from before; `shared` with whoever registered it; or
 * its own of an `older` definition, which is replaced if its source is another. The others are taken as they are: they may
 * have been changed since.
 */
export type AdapterPast = 'own' | 'shared' | 'older';

/** Registers each adapter once. */
export class AdapterClaims {
  readonly #adapters: WorkflowAdapters;
  readonly #claims = new Map<string, Claim>();

  constructor(adapters: WorkflowAdapters) {
    this.#adapters = adapters;
  }

  /** True while workflows have registered the adapter, so that it goes with the last of them. */
  isOwned(claimed: { readonly model: string; readonly name: string }): boolean {
    return this.#claims.get(keyOf(claimed))?.createdAt !== undefined;
  }

  /** Ids of the workflows that answer with an adapter, or are being registered to. */
  usersOf(claimed: { readonly model: string; readonly name: string }): string[] {
    return [...(this.#claims.get(keyOf(claimed))?.users ?? [])];
  }

  /**
   * Registers the adapter, or shares the one that another workflow or a client registered from the same source.
   * @param user id of the workflow
   * @param past what is known of one that is there; absent = nothing, so that it must have the same source
   */
  async claim(request: ClaimRequest, user: string, call: CallContext, past?: AdapterPast): Promise<void> {
    const key = keyOf(request);
    for (let known = this.#claims.get(key); known !== undefined; known = this.#claims.get(key)) {
      const settled = await known.ready.then(
        () => true,
        () => false,
      );
      if (!settled || this.#claims.get(key) !== known) continue;
      // From now on it stays, and a failure takes the claim back.
      known.users.add(user);
      try {
        if (past === undefined) await this.#requireSame(request);
      } catch (error) {
        await this.release(request, user, call);
        throw error;
      }
      return;
    }
    const claim: Claim = { users: new Set([user]), createdAt: undefined, ready: Promise.resolve() };
    claim.ready = this.#register(request, claim, call, past);
    this.#claims.set(key, claim);
    try {
      await claim.ready;
    } catch (error) {
      this.#claims.delete(key);
      throw error;
    }
  }

  /** Names of all adapters that workflows have claimed. */
  names(): string[] {
    return [...this.#claims.keys()].map((key) => (JSON.parse(key) as [string, string])[1]);
  }

  /** Gives a claim back; the last one deletes what workflows have registered. */
  async release(
    claimed: { readonly model: string; readonly name: string },
    user: string,
    call: CallContext,
  ): Promise<void> {
    const key = keyOf(claimed);
    const claim = this.#claims.get(key);
    if (claim === undefined) return;
    claim.users.delete(user);
    if (claim.users.size > 0) return;
    this.#claims.delete(key);
    // It may be gone already: deleted or replaced by a client, or with its model. Where an alias leads to it, it stays.
    const { createdAt } = claim;
    if (createdAt === undefined) return;
    await this.#adapters.delete({ model: claimed.model, name: claimed.name, createdAt }, call).catch(ifStays);
  }

  async #register(
    request: ClaimRequest,
    claim: Claim,
    call: CallContext,
    past: AdapterPast | undefined,
  ): Promise<void> {
    const create = async () => {
      claim.createdAt = (await this.#adapters.create(request, call)).createdAt;
    };
    try {
      return await create();
    } catch (error) {
      if (!isReason(error, 'ADAPTER_EXISTS')) throw error;
    }
    let there: AdapterInfo;
    try {
      there = await this.#adapters.settled(request);
    } catch (error) {
      // It was going. Those that are claimed stay, and this one is claimed by now.
      if (isReason(error, 'ADAPTER_NOT_FOUND')) return create();
      throw error;
    }
    const { source, createdAt } = there;
    if (past === undefined && !this.#isSame(request, source)) throw taken(request, source);
    if (past === 'own' || past === 'older') claim.createdAt = createdAt;
    if (past !== 'older' || this.#isSame(request, source)) return;
    await this.#adapters.create({ ...request, replace: true }, call);
  }

  /** A client may have changed it since it was claimed. */
  async #requireSame(request: ClaimRequest): Promise<void> {
    const { source } = await this.#adapters.settled(request);
    if (!this.#isSame(request, source)) throw taken(request, source);
  }

  #isSame({ model, source }: ClaimRequest, other: string): boolean {
    return (
      source === other || this.#adapters.placeOf({ model, source }) === this.#adapters.placeOf({ model, source: other })
    );
  }
}

function keyOf({ model, name }: { readonly model: string; readonly name: string }): string {
  return JSON.stringify([model, name]);
}

function isReason(error: unknown, ...reasons: readonly ErrorReason[]): boolean {
  return error instanceof AppError && reasons.includes(error.reason);
}

function ifStays(error: unknown): void {
  if (!isReason(error, 'ADAPTER_NOT_FOUND', 'MODEL_NOT_FOUND', 'ADAPTER_IN_USE')) throw error;
}

function taken({ model, name, source }: ClaimRequest, other: string): AppError {
  return new AppError(
    'ADAPTER_EXISTS',
    `model ${JSON.stringify(model)} has an adapter ${JSON.stringify(name)} from ${other} already, not from ${source}`,
    { metadata: { adapter: name, model } },
  );
}
