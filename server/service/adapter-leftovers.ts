/**
 * Adapters that a workflow registered and that outlived it: a crash came between the writing of the workflow's record and
 * of theirs. They are taken away when the server starts, so that a workflow is there with all it has, or not at all.
 */
import { AppError } from '../errors.js';
import { RegistryConflict, type StoredRecord } from '../registry/types.js';
import type { AdapterCore } from './adapter-core.js';
import { deleteAdapter } from './adapter-delete.js';
import { ADAPTER_KIND, type AdapterRecord, readRecord } from './adapter-records.js';
import type { CallContext } from './types.js';

/** Which adapters are left over. */
export interface Leftovers {
  /** Names of adapters that registered workflows have. */
  readonly owned: ReadonlySet<string>;
  /** Younger ones stay: another process may be about to write their workflow's record. */
  readonly olderThanMs: number;
}

/** Deletes them, also those of models that are not served now; a failure is told in the log. */
export async function removeLeftovers(
  core: AdapterCore,
  { owned, olderThanMs }: Leftovers,
  call: CallContext,
  refresh: (model: string, name: string) => Promise<void>,
): Promise<void> {
  const { records } = await core.book.store.list(ADAPTER_KIND);
  const before = Date.now() - olderThanMs;
  for (const stored of records) {
    const record = readable(stored);
    if (record?.workflow === undefined || owned.has(stored.name) || record.createdAt > before) continue;
    const { scope: model, name } = stored;
    try {
      if (core.registries.get(model)?.get(name) !== undefined) {
        await deleteAdapter(core, model, { name }, call, refresh);
      } else {
        const note = { action: 'delete', digestBefore: record.digest, detail: { workflow: record.workflow } };
        const key = { kind: ADAPTER_KIND, scope: model, name };
        const author = { actor: 'server', requestId: call.requestId };
        await core.book.store.write([{ key, body: null, expected: stored.revision, note }], author);
      }
      core.log.warn(
        { model, adapter: name },
        `left over from workflow ${record.workflow}, which is not registered: deleted`,
      );
    } catch (error) {
      if (error instanceof RegistryConflict) continue;
      core.log.warn(
        { model, adapter: name, err: error },
        `left over, and not deleted: ${AppError.from(error).message}`,
      );
    }
  }
}

function readable({ body }: StoredRecord): (AdapterRecord & { type: 'adapter' }) | undefined {
  try {
    const record = readRecord(body);
    return record.type === 'adapter' ? record : undefined;
  } catch {
    return undefined;
  }
}
