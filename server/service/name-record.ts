/** The record of one registration of a model: by it servers on one registry agree on whose model has a name. */
import type { KeptModels } from './kept-models.js';
import type { OpenedModel } from './model-description.js';
import type { RegisteredModel } from './registered-model.js';
import type { CallContext } from './types.js';

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

  /** To be called when the name was given up here: it may be another server's. */
  release(): void {
    if (this.#call !== undefined) void this.#kept.bringBack(this.#model.name);
  }

  async #write(): Promise<void> {
    if (this.#call === undefined) return;
    const { name, url, overrides, opened, stop } = this.#model;
    const saved = { url, overrides, snapshot: opened?.snapshot };
    this.#model.revision = await this.#kept.create(name, saved, this.#call);
    if (!stop.signal.aborted) return;
    // Whoever took the name away meanwhile found nothing to delete.
    await this.#kept.withdraw(name, this.#model.revision, this.#call);
    stop.signal.throwIfAborted();
  }
}
