/**
 * Keys and values of prompts that were read before, in blocks, as a tree: a block's place is the blocks before it, its
 * tokens, and the adapter that was active at each of its positions. So only rows share that would have computed the
 * same: under the same selection, or before the point where an activated adapter begins. Blocks are copies; bounded by
 * bytes, least recently used first.
 */
import type { RowStore } from './backend.js';
import { BLOCK } from './placement.js';

/** A row as far as its cached positions go. */
export interface CachedRow {
  /** Names the rotary tables of the row: keys rotated by another table must not be shared. */
  readonly ropeKey: string;
  idAt(position: number): number;
  spanAt(position: number): { readonly adapter: { readonly key: string }; readonly until: number };
}

interface Node {
  /** Within the parent's children. */
  readonly key: string;
  readonly parent: Map<string, Node>;
  readonly children: Map<string, Node>;
  /** Keys of the adapters that were active in the block. */
  readonly adapters: readonly string[];
  /** One slot of BLOCK positions. */
  readonly store: RowStore;
}

/** The cached beginnings of prompts, and their memory. */
export class PrefixCache {
  readonly #createBlock: () => RowStore;
  readonly #budget: number;
  readonly #roots = new Map<string, Map<string, Node>>();
  /** Least recently used first. A parent always comes after its children, so the first one is a leaf. */
  readonly #byUse = new Set<Node>();
  #bytes = 0;

  /**
   * @param createBlock makes a store of one slot and {@link BLOCK} positions
   * @param budget bytes of all blocks; 0 = nothing is kept
   */
  constructor(createBlock: () => RowStore, budget: number) {
    this.#createBlock = createBlock;
    this.#budget = budget;
  }

  /** Bytes of the blocks. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Copies the longest known prefix of the row into its store.
   * @param most positions that may be taken at most
   * @returns how many were taken; a multiple of {@link BLOCK}
   */
  restore(row: CachedRow, most: number, target: RowStore, slot: number): number {
    const path: Node[] = [];
    let children = this.#roots.get(row.ropeKey);
    while (children !== undefined && (path.length + 1) * BLOCK <= most) {
      const node = this.#whole(children, blockOf(row, path.length * BLOCK).key);
      if (node === undefined) break;
      path.push(node);
      children = node.children;
    }
    for (const [index, { store }] of path.entries()) {
      store.copyStretch({ slot: 0, from: 0, count: BLOCK }, target, slot, index * BLOCK);
    }
    this.#touch(path);
    return path.length * BLOCK;
  }

  /**
   * Keeps the whole blocks among a row's first `length` positions, as far as the budget goes.
   * @param keep whether blocks of a selection are worth keeping: not when its adapters were unloaded
   */
  insert(row: CachedRow, length: number, source: RowStore, slot: number, keep: (key: string) => boolean): void {
    const path: Node[] = [];
    if (length < BLOCK || this.#budget === 0 || source.broken !== undefined) return;
    let children: Map<string, Node> = this.#roots.get(row.ropeKey) ?? new Map();
    this.#roots.set(row.ropeKey, children);
    for (let from = 0; from + BLOCK <= length; from += BLOCK) {
      const { key, adapters } = blockOf(row, from);
      let node = this.#whole(children, key);
      if (node === undefined) {
        if (!adapters.every(keep)) break;
        // What is older than this row's own blocks makes room; those are in use, and the row's beginning is worth more.
        this.#touch(path);
        const store = this.#room(new Set(path));
        if (store === undefined) break;
        source.copyStretch({ slot, from, count: BLOCK }, store, 0, 0);
        node = { key, parent: children, children: new Map(), adapters, store };
        children.set(key, node);
        this.#byUse.add(node);
      }
      path.push(node);
      children = node.children;
    }
    this.#touch(path);
  }

  /** Drops every block that was computed under a selection for which `gone` holds, and what follows it. */
  drop(gone: (key: string) => boolean): void {
    const visit = (children: Map<string, Node>) => {
      for (const node of children.values()) {
        if (node.adapters.some(gone)) this.#remove(node);
        else visit(node.children);
      }
    };
    for (const children of this.#roots.values()) visit(children);
  }

  /** The block of that key. One that its device lost, or could not fill, is dropped with what follows it. */
  #whole(children: ReadonlyMap<string, Node>, key: string): Node | undefined {
    const node = children.get(key);
    if (node?.store.broken === undefined) return node;
    this.#remove(node);
    return undefined;
  }

  /** A store for one more block: a new one, or that of the block that was not used for longest. */
  #room(kept: ReadonlySet<Node>): RowStore | undefined {
    const [first] = this.#byUse;
    // All blocks have one size; before there is any, a first one tells it.
    const size = first?.store.bytes;
    if (size === undefined || this.#bytes + size <= this.#budget) {
      const store = this.#createBlock();
      if (store.bytes <= this.#budget) {
        this.#bytes += store.bytes;
        return store;
      }
      store.release();
      return undefined;
    }
    if (kept.has(first!)) return undefined;
    if (first!.store.broken !== undefined) {
      this.#remove(first!);
      return this.#room(kept);
    }
    this.#byUse.delete(first!);
    first!.parent.delete(first!.key);
    return first!.store;
  }

  #remove(node: Node): void {
    for (const child of node.children.values()) this.#remove(child);
    node.parent.delete(node.key);
    this.#byUse.delete(node);
    this.#bytes -= node.store.bytes;
    node.store.release();
  }

  /** Marks a path as used just now, the deepest block first. */
  #touch(path: readonly Node[]): void {
    for (let index = path.length - 1; index >= 0; index -= 1) {
      this.#byUse.delete(path[index]!);
      this.#byUse.add(path[index]!);
    }
  }
}

/** Names a block within its parent: the adapters by position, and the tokens. */
function blockOf(row: CachedRow, from: number): { key: string; adapters: string[] } {
  const adapters: string[] = [];
  const spans: string[] = [];
  for (let position = from; position < from + BLOCK; ) {
    const { adapter, until } = row.spanAt(position);
    adapters.push(adapter.key);
    spans.push(`${position - from}@${adapter.key}`);
    position = until;
  }
  const ids: number[] = [];
  for (let position = from; position < from + BLOCK; position += 1) ids.push(row.idAt(position));
  return { key: `${spans.join(' ')}:${ids.join(',')}`, adapters };
}
