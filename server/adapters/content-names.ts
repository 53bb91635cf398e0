/**
 * What names make of content, whether it is held or not: it is wanted while one points to it, stays while one of them is
 * pinned, and how often it is used is remembered as long.
 */
import { NEVER_USED, UseClock } from './use-clock.js';

interface Named {
  /** How many names, and how many of them are pinned. */
  refs: number;
  pins: number;
  /** See {@link UseClock.used}. */
  uses: number;
}

/** Counts of names, by the content's id. */
export class ContentNames {
  private readonly names = new Map<string, Named>();
  private readonly clock = new UseClock();

  /** Notes that a name points to the content. */
  add(id: string, pinned: boolean): void {
    const named = this.names.get(id) ?? { refs: 0, pins: 0, uses: NEVER_USED };
    named.refs += 1;
    named.pins += pinned ? 1 : 0;
    this.names.set(id, named);
  }

  /** Notes that a name no longer points there. @returns false where none did */
  remove(id: string, pinned: boolean): boolean {
    const named = this.names.get(id);
    if (named === undefined) return false;
    named.refs -= 1;
    named.pins -= pinned ? 1 : 0;
    if (named.refs <= 0) this.names.delete(id);
    return true;
  }

  /** True while a name points there. */
  has(id: string): boolean {
    return this.names.has(id);
  }

  /** True while one of the names is pinned. */
  isPinned(id: string): boolean {
    return (this.names.get(id)?.pins ?? 0) > 0;
  }

  /** Adds a use. @param held how many contents are held now */
  noteUse(id: string, held: number): void {
    const named = this.names.get(id);
    if (named !== undefined) named.uses = this.clock.used(named.uses, held);
  }

  /** See {@link UseClock.used}; {@link NEVER_USED} without a name. */
  usesOf(id: string): number {
    return this.names.get(id)?.uses ?? NEVER_USED;
  }
}
