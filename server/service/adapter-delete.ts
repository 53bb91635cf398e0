/** Unregistering an adapter. */
import { type AdapterEntry, digestOf } from '../adapters/adapter-entry.js';
import { AppError } from '../errors.js';
import { redactSource } from '../sources/source.js';
import { type AdapterCore, findEntry, freeUnused, infoOf, registryOf } from './adapter-core.js';
import { checkExpected } from './adapter-versions.js';
import type { AdapterInfo, CallContext } from './types.js';

/**
 * Removes a name. One that lies in a folder of the start is remembered as removed, so that it stays away.
 * @param request `createdAt`: only what was registered then; what has come in its place is not found
 * @param refresh brings a name up to date with the registry, after another process has changed it
 * @returns the adapter as it was
 */
export async function deleteAdapter(
  core: AdapterCore,
  model: string,
  request: { readonly name: string; readonly expectedDigest?: string | undefined; readonly createdAt?: number },
  call: CallContext,
  refresh: (model: string, name: string) => Promise<void>,
): Promise<AdapterInfo> {
  const name = request.name.normalize('NFC');
  const remove = async (): Promise<AdapterInfo> => {
    const registry = registryOf(core, model);
    const entry = findEntry(core, model, name);
    checkExpected(entry, request.expectedDigest);
    if (request.createdAt !== undefined && request.createdAt !== entry.createdAt) {
      throw new AppError('ADAPTER_NOT_FOUND', `another adapter has the name ${JSON.stringify(name)} now`);
    }
    const alias = [...registry.aliases()].find(({ targets }) => targets.some(({ adapter }) => adapter === name));
    if (alias !== undefined) {
      throw new AppError(
        'ADAPTER_IN_USE',
        `adapter ${JSON.stringify(name)} is what the alias ${JSON.stringify(alias.name)} leads to; change or delete that first`,
        { metadata: { adapter: name, model, alias: alias.name } },
      );
    }
    // What has their time of registration are the workflows themselves, which have given it back by then.
    const users = request.createdAt === undefined ? core.usersOf({ model, name }) : [];
    if (users.length > 0) throw usedBy(entry, users);
    const info = infoOf(core, entry);
    const note = { action: 'delete', digestBefore: digestOf(entry), detail: { source: redactSource(entry.source) } };
    await core.book.commit(registry, entry, entry.fromFolder ? { type: 'removed' } : null, note, call);
    registry.remove(name);
    core.loader.forget(entry);
    core.code?.forget(model, name);
    freeUnused(core, registry);
    core.journal.changed(model, name);
    core.log.info({ model, adapter: name, runningRows: entry.usage.runningRows }, 'adapter deleted');
    return { ...info, state: 'deleting' };
  };
  findEntry(core, model, name);
  return core.book.change(model, name, () => core.book.linked(model, remove), refresh);
}

/** ADAPTER_IN_USE, with the workflows. */
function usedBy({ model, name }: AdapterEntry, workflows: readonly string[]): AppError {
  const users = workflows.join(', ');
  return new AppError(
    'ADAPTER_IN_USE',
    `adapter ${JSON.stringify(name)} is used by workflows: ${users}; unregister them first`,
    { metadata: { adapter: name, model, workflows: users } },
  );
}
