/** What the registry keeps of adapters: kind `adapter`, scope = the model, one record for each name. */
import { z } from 'zod';
import type { AdapterAlias, AdapterEntry } from '../adapters/adapter-entry.js';
import { digestOf } from '../adapters/adapter-entry.js';

/** Kind of the records. */
export const ADAPTER_KIND = 'adapter';

/** Versions that a name remembers; the log of changes has all of them. */
const MAX_VERSIONS = 100;

const version = z.object({
  digest: z.string(),
  source: z.string(),
  snapshot: z.string().optional(),
  createdAt: z.number(),
});

const adapter = z.object({
  type: z.literal('adapter'),
  source: z.string(),
  /** '' until its files were read. */
  digest: z.string(),
  /** Where the cache of remote files has it; absent for local folders. */
  snapshot: z.string().optional(),
  preload: z.boolean(),
  pin: z.boolean(),
  options: z.record(z.string(), z.string()),
  versions: z.array(version),
  fromFolder: z.boolean(),
  /** The workflow that registered it; absent = a client. */
  workflow: z.string().optional(),
  createdAt: z.number(),
  updatedAt: z.number(),
});

const alias = z.object({
  type: z.literal('alias'),
  targets: z.array(z.object({ adapter: z.string(), digest: z.string().optional(), share: z.number() })).min(1),
  createdAt: z.number(),
  updatedAt: z.number(),
});

/** An adapter that lies in a folder of the start, and was unregistered: it stays away. */
const removed = z.object({ type: z.literal('removed') });

const schema = z.discriminatedUnion('type', [adapter, alias, removed]);

/** Body of a record. */
export type AdapterRecord = z.infer<typeof schema>;

/** @throws Error for a body that no version of this program wrote */
export function readRecord(body: unknown): AdapterRecord {
  return schema.parse(body);
}

/** The record of an entry. */
export function recordOf(entry: AdapterEntry): AdapterRecord & { type: 'adapter' } {
  const { source, snapshot, preload, pin, options, fromFolder, workflow, createdAt, updatedAt } = entry;
  return {
    type: 'adapter',
    ...{ source, preload, pin, fromFolder, createdAt, updatedAt },
    digest: digestOf(entry),
    ...(snapshot !== undefined && { snapshot }),
    ...(workflow !== undefined && { workflow }),
    options: { ...options },
    versions: versionsOf(entry).slice(-MAX_VERSIONS),
  };
}

/** The versions of an entry with its present content, which is the last one if it is new. */
export function versionsOf(entry: AdapterEntry): AdapterEntry['versions'][number][] {
  const digest = digestOf(entry);
  const known = entry.versions.some((one) => one.digest === digest);
  if (digest === '' || known) return [...entry.versions];
  const { source, snapshot, updatedAt: createdAt } = entry;
  return [...entry.versions, { digest, source, ...(snapshot !== undefined && { snapshot }), createdAt }];
}

/** The record of an alias. */
export function aliasRecord({ targets, createdAt, updatedAt }: Omit<AdapterAlias, 'name' | 'revision'>): AdapterRecord {
  return { type: 'alias', targets: targets.map((target) => ({ ...target })), createdAt, updatedAt };
}
