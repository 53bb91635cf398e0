/** The registry of a server that keeps nothing: the same rules, in the memory of this process. */
import { Follower } from './follower.js';
import { Reachability } from './reachability.js';
import {
  type ChangeAuthor,
  type EventQuery,
  type FollowedChange,
  type RecordChange,
  type RecordKey,
  RegistryConflict,
  type RegistryStore,
  type StoredEvent,
  type StoredRecord,
} from './types.js';

/** Most events that are kept. */
const MAX_EVENTS = 10_000;

const id = ({ kind, scope, name }: RecordKey): string => JSON.stringify([kind, scope, name]);

/** Ends with the process. */
export class MemoryStore implements RegistryStore {
  readonly place = 'memory';
  readonly durable = false;
  private readonly records = new Map<string, StoredRecord>();
  /** Oldest first. */
  private log: StoredEvent[] = [];
  private revision = 0;
  private readonly followers = new Set<Follower>();
  /** Nothing can be lost. */
  private readonly reachability = new Reachability({ lost: () => {}, back: () => {} });

  async get(key: RecordKey): Promise<StoredRecord | undefined> {
    return this.records.get(id(key));
  }

  async list(kind: string, scope?: string) {
    const records = [...this.records.values()]
      .filter((record) => record.kind === kind && (scope === undefined || record.scope === scope))
      .sort((a, b) => (a.scope < b.scope || (a.scope === b.scope && a.name < b.name) ? -1 : 1));
    return { records, revision: this.revision };
  }

  async write(changes: readonly RecordChange[], author: ChangeAuthor): Promise<number> {
    for (const { key, expected } of changes) {
      if (expected !== undefined && (this.records.get(id(key))?.revision ?? 0) !== expected) {
        throw new RegistryConflict(key);
      }
    }
    this.revision += 1;
    const { revision } = this;
    const at = Date.now();
    for (const [ordinal, { key, body, note }] of changes.entries()) {
      if (body === null) this.records.delete(id(key));
      // Through JSON, as everywhere: no caller changes what is stored.
      else this.records.set(id(key), { ...key, body: JSON.parse(JSON.stringify(body)), revision });
      this.log.push({ ...key, ...note, ...author, revision, ordinal, at });
    }
    if (this.log.length > 2 * MAX_EVENTS) this.log = this.log.slice(-MAX_EVENTS);
    for (const follower of this.followers) follower.wake();
    return revision;
  }

  async events({ kind, scope, name, before, limit }: EventQuery): Promise<readonly StoredEvent[]> {
    const wanted = (event: StoredEvent): boolean =>
      (kind === undefined || event.kind === kind) &&
      (scope === undefined || event.scope === scope) &&
      (name === undefined || event.name === name) &&
      (before === undefined ||
        event.revision < before.revision ||
        (event.revision === before.revision && event.ordinal < before.ordinal));
    return this.log.filter(wanted).slice(-limit).reverse();
  }

  follow(revision: number, onChange: (changes: readonly FollowedChange[]) => Promise<void> | void) {
    const look = async (after: number) => ({ revision: this.revision, changes: this.changesAfter(after) });
    const follower = new Follower(revision, look, onChange, { pollMs: 0, reachability: this.reachability });
    this.followers.add(follower);
    return async () => {
      this.followers.delete(follower);
      await follower.stop();
    };
  }

  async close(): Promise<void> {
    await Promise.all([...this.followers].map((follower) => follower.stop()));
  }

  private changesAfter(after: number): FollowedChange[] {
    const latest = new Map<string, FollowedChange>();
    // From the end: followers look after every change, and the log is long.
    let first = this.log.length;
    while (first > 0 && this.log[first - 1]!.revision > after) first -= 1;
    for (const event of this.log.slice(first)) {
      const key = { kind: event.kind, scope: event.scope, name: event.name };
      latest.delete(id(key));
      latest.set(id(key), { key, record: this.records.get(id(key)), revision: event.revision });
    }
    return [...latest.values()];
  }
}
