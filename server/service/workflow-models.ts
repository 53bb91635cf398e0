/** The models that workflows use: registered ones by their names, others registered for them and shared. */
import { AppError } from '../errors.js';
import { redactSource } from '../sources/source.js';
import type { ModelOverrides, RegisterModelRequest } from './management.js';
import type { OpenedModel, OpenModel } from './model-description.js';
import { poolKey } from './model-pool.js';
import type { RegisteredModel } from './registered-model.js';
import { renameFields } from './renamed-fields.js';

/** What of the registered models this works with. */
export interface SharedModels {
  readonly registered: ReadonlyMap<string, RegisteredModel>;
  readonly open: OpenModel;
  /** Registers an opened model for a workflow, and waits until it is ready. */
  register(request: RegisterModelRequest, signal: AbortSignal, opened: OpenedModel, workflow: string): Promise<unknown>;
  /** Takes a model's name away; resolves when its engine is given back. */
  remove(model: RegisteredModel): Promise<void>;
  /** Resolves when the name can be served anew. */
  left(name: string): Promise<void>;
}

/** A workflow: its name without its version, and its id. */
export interface ModelUser {
  readonly workflow: string;
  readonly id: string;
}

/** Takes models for workflows and gives them back. */
export class WorkflowModels {
  readonly #models: SharedModels;

  constructor(models: SharedModels) {
    this.#models = models;
  }

  /**
   * Takes a model for a workflow: a registered one by its name, else the one at a url, under the local name or, where
   * another model has that, under `workflow:local`.
   * @returns the name it is served under
   */
  async retain(
    user: ModelUser,
    local: string,
    url: string,
    overrides: ModelOverrides,
    signal: AbortSignal,
  ): Promise<string> {
    const byName = this.#models.registered.get(url);
    if (byName?.direct) {
      byName.workflows.add(user.id);
      try {
        await byName.ready;
      } catch (error) {
        this.release(user.id, byName.name);
        throw error;
      }
      return byName.name;
    }
    const opened = await this.#models.open(url, local, overrides, { signal }).catch((thrown: unknown) => {
      const placed = renameFields(thrown, (field) => (field === 'dtype' ? `models.${local}.options.dtype` : field));
      throw orNoSuchName(url, byName, placed);
    });
    try {
      return await this.#share(user, local, url, overrides, opened, signal);
    } finally {
      // What is registered holds its own files.
      if (!this.#holds(opened)) opened.release?.();
    }
  }

  #holds(opened: OpenedModel): boolean {
    return [...this.#models.registered.values()].some((model) => model.opened?.release === opened.release);
  }

  async #share(
    user: ModelUser,
    local: string,
    url: string,
    overrides: ModelOverrides,
    opened: OpenedModel,
    signal: AbortSignal,
  ): Promise<string> {
    const key = poolKey(opened.options);
    for (const name of [local, `${user.workflow}:${local}`]) {
      await this.#models.left(name);
      const known = this.#models.registered.get(name);
      if (known === undefined) {
        const options = { ...opened.options, name };
        await this.#models.register({ url, name, ...overrides }, signal, { ...opened, options }, user.id);
        return name;
      }
      if ((await known.key.catch(() => undefined)) !== key || this.#models.registered.get(name) !== known) continue;
      known.workflows.add(user.id);
      try {
        await known.ready;
      } catch (error) {
        this.release(user.id, name);
        throw error;
      }
      return name;
    }
    throw new AppError('MODEL_EXISTS', `models ${local} and ${user.workflow}:${local} are others; name it differently`);
  }

  /** A workflow no longer uses the model; the model goes if nothing else does. Resolves when it has gone. */
  async release(id: string, name: string): Promise<void> {
    const model = this.#models.registered.get(name);
    if (model === undefined || !model.workflows.delete(id)) return;
    if (!model.direct && model.workflows.size === 0) await this.#models.remove(model);
  }
}

/** What is no place may have been meant as the name of a registered model. */
function orNoSuchName(url: string, named: RegisteredModel | undefined, thrown: unknown): unknown {
  if (!(thrown instanceof AppError) || thrown.reason !== 'MODEL_SOURCE_INVALID') return thrown;
  // Names of workflows' own models have a ":".
  if (named === undefined && /[/\\:]/.test(url)) return thrown;
  const quoted = JSON.stringify(url);
  const why =
    named === undefined
      ? `no model ${quoted} is registered`
      : `model ${quoted} is there for workflows only (${[...named.workflows].sort().join(', ')}) and goes with them; ` +
        `name its url, ${redactSource(named.url)}, to share it`;
  return new AppError(thrown.reason, `${why}; ${thrown.message}`, { cause: thrown });
}
