/**
 * The durable registry: what was asked for and acknowledged, as small JSON records, and the log of every change. It
 * knows nothing of adapters or models; whoever uses it chooses a kind, documents its body, and keeps its own view in
 * memory up to date with {@link RegistryStore.follow}.
 *
 * | kind | scope | name | body |
 * | --- | --- | --- | --- |
 * | `adapter` | model | adapter or alias | `AdapterRecord` of `service/adapter-records.ts` |
 * | `model` | '' | model | `SavedModel` of `service/model-description.ts` |
 * | `left-model` | '' | model | `since`: it was unregistered, and what is kept of its adapters is to go |
 * | `workflow` | '' | `name/version` | `SavedWorkflow` of `service/workflows/workflow-service.ts` |
 */

/** What a record is found by. */
export interface RecordKey {
  readonly kind: string;
  /** What the name is unique in, for example a model; '' where there is nothing. */
  readonly scope: string;
  readonly name: string;
}

/** A record as it is stored. */
export interface StoredRecord extends RecordKey {
  /** Any JSON value; null = what is stored is none. */
  readonly body: unknown;
  /** Revision of the registry that wrote it: grows with every change of any record, so it orders changes. */
  readonly revision: number;
}

/** What is said of a change in the log. */
export interface ChangeNote {
  /** For example `create`. */
  readonly action: string;
  /** Content digests before and after, where there are any. */
  readonly digestBefore?: string | undefined;
  readonly digestAfter?: string | undefined;
  /** Further facts, for readers. */
  readonly detail?: Readonly<Record<string, unknown>> | undefined;
}

/** One record's change. */
export interface RecordChange {
  readonly key: RecordKey;
  /** The new body; null deletes the record. */
  readonly body: unknown;
  /** Revision that the record must have now; 0 = there must be none; absent = whatever there is. */
  readonly expected?: number | undefined;
  readonly note: ChangeNote;
}

/** Who asked for a change. */
export interface ChangeAuthor {
  readonly actor: string;
  readonly requestId: string;
}

/** One line of the log. */
export interface StoredEvent extends RecordKey, ChangeAuthor, ChangeNote {
  readonly revision: number;
  /** Place within the changes of its revision, from 0. */
  readonly ordinal: number;
  /** Unix milliseconds. */
  readonly at: number;
}

/** Which events to read. */
export interface EventQuery {
  readonly kind?: string | undefined;
  readonly scope?: string | undefined;
  readonly name?: string | undefined;
  /** Only what is older than this place. */
  readonly before?: { readonly revision: number; readonly ordinal: number } | undefined;
  readonly limit: number;
}

/** A change was not made, because a record no longer was what the change expected. */
export class RegistryConflict extends Error {
  readonly key: RecordKey;

  constructor(key: RecordKey) {
    super(`the record ${JSON.stringify([key.kind, key.scope, key.name])} has changed meanwhile`);
    this.name = 'RegistryConflict';
    this.key = key;
  }
}

/** Durable records. Methods throw AppError REGISTRY_UNAVAILABLE when the database cannot be used. */
export interface RegistryStore {
  /** Where it is, for start-up output; never holds a password. */
  readonly place: string;
  /** False: everything ends with the process. */
  readonly durable: boolean;
  /** One record, or undefined. */
  get(key: RecordKey): Promise<StoredRecord | undefined>;
  /** All records of a kind, of one scope or of all, by name; and the revision that this is the state of. */
  list(kind: string, scope?: string): Promise<{ readonly records: readonly StoredRecord[]; readonly revision: number }>;
  /**
   * Makes all changes or none, and resolves with their revision once they would survive a crash. A rejection other
   * than {@link RegistryConflict} says nothing about whether they were made.
   * @throws RegistryConflict
   */
  write(changes: readonly RecordChange[], author: ChangeAuthor): Promise<number>;
  /** The log, newest first. */
  events(query: EventQuery): Promise<readonly StoredEvent[]>;
  /**
   * Calls back with the records that changed after `revision`, whoever changed them (this process included), in the
   * order of their revisions, a deleted one as undefined. Within a second of the change; one call at a time.
   * @returns stops it; resolves when no call runs any more
   */
  follow(revision: number, onChange: (changes: readonly FollowedChange[]) => Promise<void> | void): () => Promise<void>;
  close(): Promise<void>;
}

/** A record that changed, as it is now. */
export interface FollowedChange {
  readonly key: RecordKey;
  readonly record: StoredRecord | undefined;
  /** Revision of its last change. */
  readonly revision: number;
}
