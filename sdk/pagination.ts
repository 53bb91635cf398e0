/** A page of a listing. */
export interface Page<T> {
  items: T[];
  /** '' on the last page. */
  nextPageToken: string;
}

/**
 * A listing that is fetched page by page, when it is used: `await` gives the first page, `for await` every item.
 */
export class PagedList<T> implements PromiseLike<Page<T>>, AsyncIterable<T> {
  readonly #fetch: (pageToken: string) => Promise<Page<T>>;
  readonly #firstToken: string;

  constructor(fetch: (pageToken: string) => Promise<Page<T>>, firstToken = '') {
    this.#fetch = fetch;
    this.#firstToken = firstToken;
  }

  // biome-ignore lint/suspicious/noThenProperty: being awaitable is the purpose
  then<A = Page<T>, B = never>(
    onPage?: ((page: Page<T>) => A | PromiseLike<A>) | null,
    onError?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.#fetch(this.#firstToken).then(onPage, onError);
  }

  /** Page after page. */
  async *pages(): AsyncGenerator<Page<T>, void, undefined> {
    let token = this.#firstToken;
    do {
      const page = await this.#fetch(token);
      yield page;
      token = page.nextPageToken;
    } while (token !== '');
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    for await (const page of this.pages()) yield* page.items;
  }

  /** All items. */
  async toArray(): Promise<T[]> {
    const all: T[] = [];
    for await (const item of this) all.push(item);
    return all;
  }
}
