/** Changes of a registry that tests write and follow. */
import assert from 'node:assert/strict';
import { AppError } from '../../server/errors.js';
import type { FollowedChange, RegistryStore } from '../../server/registry/types.js';

export const author = { actor: 'tester', requestId: 'r1' };
export const key = (name: string, scope = 'm') => ({ kind: 'adapter', scope, name });
export const put = (name: string, body: unknown, expected?: number) => ({
  key: key(name),
  body,
  expected,
  note: { action: body === null ? 'delete' : 'put' },
});

/** Waits until `done` holds of what a follower was told. */
export function followed(store: RegistryStore, revision = 0) {
  const seen: FollowedChange[] = [];
  let look = (): void => {};
  const stop = store.follow(revision, (changes) => {
    seen.push(...changes);
    look();
  });
  const until = async (done: (seen: readonly FollowedChange[]) => boolean): Promise<void> => {
    const alive = setInterval(() => {}, 1000); // A follower's own timer does not keep the process.
    await new Promise<void>((resolve) => {
      look = () => done(seen) && resolve();
      look();
    });
    clearInterval(alive);
  };
  return { seen, stop, until };
}

/** Checks an error that says the registry cannot be used, and why. */
export const unavailable = (pattern: RegExp) => (error: unknown) => {
  assert.ok(error instanceof AppError, String(error));
  assert.equal(error.reason, 'REGISTRY_UNAVAILABLE');
  assert.match(error.message, pattern);
  return true;
};
