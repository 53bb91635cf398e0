/** The selections of waiting and started rows: combined once, shared by all rows of the same selection. */
import type { BoundAdapter } from '../adapters/types.js';
import type { RowRequest } from './messages.js';
import { combine, type RowAdapter, selectionKey } from './row-adapter.js';
import { type AdapterSpan, activationPoint, spansOf } from './row-spans.js';

/** The selections that rows use now. */
export class Selections {
  readonly #adapters: ReadonlyMap<string, BoundAdapter>;
  /** By key, with the number of spans that use it. */
  readonly #used = new Map<string, { adapter: RowAdapter; spans: number }>();

  /** @param adapters the loaded ones by digest */
  constructor(adapters: ReadonlyMap<string, BoundAdapter>) {
    this.#adapters = adapters;
  }

  /** The row's adapters by position. Throws for one that is not loaded: never the base instead. */
  spans({ selection, promptIds }: Pick<RowRequest, 'selection' | 'promptIds'>): AdapterSpan[] {
    const parts = selection.map(({ digest, weight }) => {
      const adapter = this.#adapters.get(digest);
      if (adapter === undefined) throw new Error(`adapter ${digest} is not loaded`);
      return { adapter, weight, from: activationPoint(adapter, promptIds) };
    });
    return spansOf(parts, (active) => {
      const key = selectionKey(active);
      const known = this.#used.get(key);
      if (known !== undefined) {
        known.spans += 1;
        return known.adapter;
      }
      const adapter = combine(active);
      if (key !== '') this.#used.set(key, { adapter, spans: 1 });
      return adapter;
    });
  }

  /** Whether all adapters of a selection are loaded still: an unloaded one cannot be asked for again. */
  readonly loaded = (key: string): boolean =>
    key === '' || key.split('+').every((part) => this.#adapters.has(part.slice(0, part.lastIndexOf('*'))));

  /** A row that had these spans has ended. */
  release(spans: readonly AdapterSpan[]): void {
    for (const { adapter } of spans) {
      const entry = this.#used.get(adapter.key);
      if (entry === undefined) continue;
      entry.spans -= 1;
      if (entry.spans === 0) this.#used.delete(adapter.key);
    }
  }
}
