/** The record of one registration of a model: by it servers on one registry agree on whose model has a name. */
import type { KeptModels } from './kept-models.js';
import type { OpenedModel } from './model-description.js';
import type { RegisteredModel } from './registered-model.js';
import type { CallContext } from './types.js';

/** Claims the name for a model that is to be kept, and gives it back where the model is not registered after all. */
export class NameRecord {
  readonly #kept: KeptModels;
  readonly #model: RegisteredModel;
  readonly #call: CallContext | undefined;
  #claimed: Promise<void> | undefined;

  /** @param call that the registration is kept for; undefined = it is not kept, or it is brought back from its record */
  constructor(kept: KeptModels, model: RegisteredModel, call: CallContext | undefined) {
    this.#kept = kept;
    this.#model = model;
    this.#call = call;
  }

  /**
   * Writes the record, once; the model must not answer for its name before that. Throws MODEL_EXISTS where another
   * server has the name, and what the registration was stopped with.
   */
  claim(): Promise<void> {
    this.#claimed ??= this.#write();
    return this.#claimed;
  }

  /** Notes what was fetched in a record that was written before, so that the model comes back without its origin. */
  async noteSnapshot(opening: Promise<OpenedModel>, call: CallContext): Promise<void> {
    const { snapshot } = await opening;
    const { name, url, overrides, revision } = this.#model;
    if (revision === undefined || snapshot === undefined) return;
    await this.#kept.noteSnapshot(name, { url, overrides, snapshot }, revision, call);
  }

  /** To be called when the registration failed: its record goes, if it has one; the name may be another server's. */
  async release(): Promise<void> {
    if (this.#call === undefined) return;
    const { name, revision } = this.#model;
    if (revision !== undefined) await this.#kept.withdraw(name, revision, this.#call);
    else void this.#kept.bringBack(name);
  }

  async #write(): Promise<void> {
    if (this.#call === undefined) return;
    const { name, url, overrides, opened, stop } = this.#model;
    this.#model.revision = await this.#kept.create(name, { url, overrides, snapshot: opened?.snapshot }, this.#call);
    // Whoever took the name away meanwhile found nothing to delete.
    stop.signal.throwIfAborted();
  }
}
