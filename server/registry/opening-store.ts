/** A registry that is still being opened: whoever uses it waits until it is there, and everything else goes on. */
import type { RegistryStore } from './types.js';

/** Every method throws what the opening threw, if it failed. */
export class OpeningStore implements RegistryStore {
  readonly durable = true;
  readonly #opening: Promise<RegistryStore>;
  #opened: RegistryStore | undefined;

  constructor(opening: Promise<RegistryStore>) {
    this.#opening = opening.then((store) => {
      this.#opened = store;
      return store;
    });
    // Those who use it learn of a failure.
    this.#opening.catch(() => {});
  }

  /** '' until it is open. */
  get place(): string {
    return this.#opened?.place ?? '';
  }

  async opened(): Promise<void> {
    await this.#opening;
  }

  async get(...args: Parameters<RegistryStore['get']>) {
    return (await this.#opening).get(...args);
  }

  async list(...args: Parameters<RegistryStore['list']>) {
    return (await this.#opening).list(...args);
  }

  async write(...args: Parameters<RegistryStore['write']>) {
    return (await this.#opening).write(...args);
  }

  async events(...args: Parameters<RegistryStore['events']>) {
    return (await this.#opening).events(...args);
  }

  follow(...args: Parameters<RegistryStore['follow']>): () => Promise<void> {
    let stopped = false;
    const stop = this.#opening.then(
      (store) => (stopped ? undefined : store.follow(...args)),
      () => undefined,
    );
    return async () => {
      stopped = true;
      await (await stop)?.();
    };
  }

  async close(): Promise<void> {
    await this.#opening.then(
      (store) => store.close(),
      () => {},
    );
  }
}
