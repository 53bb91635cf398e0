/** A registry whose news comes when the test says so, as it does where a follower has much to do. */
import { MemoryStore } from '../../server/registry/memory-store.js';
import type { FollowedChange } from '../../server/registry/types.js';

/** Its followers are told by the test alone. */
export class LateStore extends MemoryStore {
  tell: (changes: readonly FollowedChange[]) => Promise<void> | void = () => {};

  override follow(...[, onChange]: Parameters<MemoryStore['follow']>) {
    this.tell = onChange;
    return async () => {};
  }
}
