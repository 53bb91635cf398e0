/** Models that were registered while the server ran, in the registry: kept with what was fetched, and brought back. */
import { RegistryConflict } from '../registry/types.js';
import type { AdapterLog } from './adapter-service.js';
import type { KeptRecord, KeptRecords } from './kept-records.js';
import { type SavedModel, savedModel } from './model-description.js';
import type { CallContext } from './types.js';

/** A kept model, and the revision that its record was written with. */
export interface KeptModel extends SavedModel {
  readonly name: string;
  readonly revision: number;
}

/** What is done with what others keep and delete. */
export interface KeptModelListener {
  /** Registers it, unless something has the name; resolves when it is ready or failed. */
  bringBack(model: KeptModel): Promise<void>;
  /** Its record was deleted; what was registered under the name since is not meant. @param revision of the deletion */
  gone(name: string, revision: number): void;
}

/** The kept models. */
export class KeptModels {
  readonly #records: KeptRecords | undefined;
  readonly #log: AdapterLog;
  /** Registers what a record says; absent until {@link restore}. */
  #bringBack: ((record: KeptRecord) => Promise<void>) | undefined;

  /** @param records where they are kept; undefined = nowhere */
  constructor(records: KeptRecords | undefined, log: AdapterLog) {
    this.#records = records;
    this.#log = log;
  }

  /**
   * Resolves, once it would survive a crash, with the revision of the record; undefined = it is kept nowhere.
   * Throws MODEL_EXISTS where another process registered a model of the name meanwhile.
   */
  async create(name: string, model: SavedModel, call: CallContext): Promise<number | undefined> {
    return this.#records?.create(name, model, call, (body) => savedModel.safeParse(body).success);
  }

  /** Takes a record back that {@link create} wrote, unless it has changed since; never throws. */
  async withdraw(name: string, revision: number, call: CallContext): Promise<void> {
    try {
      await this.#records?.delete(name, call, revision);
    } catch (error) {
      if (error instanceof RegistryConflict) return;
      this.#log.warn({ model: name, err: error }, 'the record of a model that was given up stays');
    }
  }

  /** Brings back what is kept under a name that was taken here while another process registered it; never throws. */
  async bringBack(name: string): Promise<void> {
    try {
      const record = await this.#records?.get(name);
      if (record !== undefined) await this.#bringBack?.(record);
    } catch (error) {
      this.#log.warn({ model: name, err: error }, 'what is kept of the model is not read');
    }
  }

  /** @param adapters true: with the records of its adapters; else they are still to be cleared */
  async delete(name: string, call: CallContext, adapters: boolean): Promise<void> {
    await this.#records?.deleteModel(name, call, adapters);
  }

  /**
   * Notes what was fetched of a model whose record could not say so yet; without effect where the record has changed
   * or gone since. A record that stays as it is costs a download, so that a failure is told in the log only.
   * @param revision that the record was written with
   */
  async noteSnapshot(name: string, model: SavedModel, revision: number, call: CallContext): Promise<void> {
    try {
      await this.#records?.put(name, model, call, { action: 'fetch', revision });
    } catch (error) {
      if (!(error instanceof RegistryConflict)) {
        this.#log.warn({ model: name, err: error }, 'what was fetched of the model is not noted');
      }
    }
  }

  /** Brings back what is kept, one after the other, and follows changes by other processes. @returns stops following */
  async restore(listener: KeptModelListener): Promise<() => Promise<void>> {
    if (this.#records === undefined) return async () => {};
    const bringBack = async (record: KeptRecord): Promise<void> => {
      const saved = savedModel.safeParse(record.body);
      if (saved.success) {
        await listener.bringBack({ ...saved.data, name: record.name, revision: record.revision });
      } else {
        this.#log.warn({ model: record.name }, 'the record of a model is not readable: it is left alone');
      }
    };
    this.#bringBack = bringBack;
    const { records, revision } = await this.#records.list();
    for (const record of records) await bringBack(record);
    return this.#records.follow(revision, async ({ name, body, revision }) => {
      if (body === undefined) {
        listener.gone(name, revision);
        return;
      }
      const now = await this.#records?.get(name);
      if (now?.revision === revision) await bringBack({ name, body, revision });
    });
  }
}
