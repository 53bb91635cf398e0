/** Aliases: names that lead to adapters, to one of their versions, or to several by shares. */
import type { AdapterAlias, AdapterEntry } from '../adapters/adapter-entry.js';
import { digestOf } from '../adapters/adapter-entry.js';
import { AppError } from '../errors.js';
import {
  type AdapterCore,
  checkedName,
  entryOfVersion,
  exists,
  findEntry,
  freeUnused,
  registryOf,
  requireSame,
} from './adapter-core.js';
import type { Resolved } from './adapter-leases.js';
import { aliasRecord } from './adapter-records.js';
import { versionOf } from './adapter-versions.js';
import type { AliasInfo, AliasTarget, CallContext, SetAliasRequest } from './types.js';

const MAX_TARGETS = 16;

/**
 * What a name stands for now; an alias of several targets is drawn anew at each call. Undefined = no such name.
 * @throws AppError ADAPTER_FAILED where an alias leads to what is gone
 */
export function resolveName(core: AdapterCore, model: string, name: string): Resolved | undefined {
  const registry = registryOf(core, model);
  const direct = registry.get(name);
  if (direct !== undefined) return { entry: direct, aliased: false };
  const alias = registry.alias(name);
  if (alias === undefined) return undefined;
  const target = draw(alias.targets, core.random());
  const current = registry.get(target.adapter);
  if (current === undefined) throw dangling(model, alias, `adapter ${JSON.stringify(target.adapter)}`);
  const { digest } = target;
  if (digest === undefined || digestOf(current) === digest) return { entry: current, aliased: true };
  return { entry: registry.hold(target.adapter, digest, () => entryOfVersion(core, current, digest)), aliased: true };
}

function draw(targets: readonly AliasTarget[], random: number): AliasTarget {
  let left = random * totalOf(targets);
  for (const target of targets) {
    left -= target.share;
    if (left < 0) return target;
  }
  return targets.at(-1)!;
}

const totalOf = (targets: SetAliasRequest['targets']): number => targets.reduce((sum, { share = 1 }) => sum + share, 0);

function dangling(model: string, { name }: AdapterAlias, what: string): AppError {
  return new AppError('ADAPTER_FAILED', `alias ${JSON.stringify(name)} leads to ${what}, which is not registered`, {
    metadata: { adapter: name, model },
  });
}

/** All aliases of a model, by name. */
export function listAliases(core: AdapterCore, model: string): AliasInfo[] {
  const aliases = [...registryOf(core, model).aliases()].sort((a, b) => (a.name < b.name ? -1 : 1));
  return aliases.map((alias) => ({ ...alias, model }));
}

/** Throws ALIAS_NOT_FOUND. */
export function findAlias(core: AdapterCore, model: string, name: string): AliasInfo {
  const alias = registryOf(core, model).alias(name.normalize('NFC'));
  if (alias !== undefined) return { ...alias, model };
  throw new AppError('ALIAS_NOT_FOUND', `there is no alias ${JSON.stringify(name)}`, {
    metadata: { alias: name, model },
  });
}

type Refresh = (model: string, name: string) => Promise<void>;

/** Creates an alias, or replaces what it leads to. Throws ADAPTER_EXISTS where an adapter has the name. */
export async function setAlias(
  core: AdapterCore,
  model: string,
  request: SetAliasRequest,
  call: CallContext,
  refresh: Refresh,
): Promise<AliasInfo> {
  core.models.withLora(model);
  const name = checkedName(request.name, 'alias');
  const change = async (): Promise<AliasInfo> => {
    const registry = registryOf(core, model);
    const before = registry.alias(name);
    if (before === undefined && !registry.reserve(name)) throw exists(model, name, registry);
    try {
      const now = Date.now();
      const targets = checkTargets(core, model, request.targets);
      const fresh = { targets, createdAt: before?.createdAt ?? now, updatedAt: now };
      const note = { action: 'alias', detail: { targets } };
      const revision = await core.book.commit(registry, { model, name }, aliasRecord(fresh), note, call);
      requireSame(core, model, registry);
      const alias = { ...fresh, name, revision };
      registry.putAlias(alias);
      freeUnused(core, registry);
      core.journal.changed(model, name);
      core.log.info({ model, alias: name, targets }, 'alias set');
      return { ...alias, model };
    } finally {
      if (before === undefined) registry.unreserve(name);
    }
  };
  return core.book.change(model, name, () => core.book.linked(model, change), refresh);
}

/** Returns what was deleted. Throws ALIAS_NOT_FOUND. */
export async function deleteAlias(
  core: AdapterCore,
  model: string,
  given: string,
  call: CallContext,
  refresh: Refresh,
): Promise<AliasInfo> {
  const name = given.normalize('NFC');
  const change = async (): Promise<AliasInfo> => {
    const registry = registryOf(core, model);
    const alias = findAlias(core, model, name);
    await core.book.commit(registry, { model, name }, null, { action: 'unalias' }, call);
    registry.removeAlias(name);
    freeUnused(core, registry);
    core.journal.changed(model, name);
    core.log.info({ model, alias: name }, 'alias deleted');
    return alias;
  };
  return core.book.change(model, name, change, refresh);
}

function checkTargets(core: AdapterCore, model: string, targets: SetAliasRequest['targets']): AliasTarget[] {
  const fail = (field: string, description: string): AppError =>
    new AppError('INVALID_REQUEST', `${field} ${description}`, { violations: [{ field, description }] });
  if (targets.length === 0 || targets.length > MAX_TARGETS) {
    throw fail('targets', `has ${targets.length} entries; 1 to ${MAX_TARGETS} would be right`);
  }
  for (const [at, { share = 1 }] of targets.entries()) {
    if (!Number.isFinite(share) || share <= 0) {
      throw fail(`targets[${at}].share`, `is ${share}; a number above 0 would be right`);
    }
  }
  if (!Number.isFinite(totalOf(targets))) {
    throw fail(
      'targets',
      'have shares whose sum is no finite number; only their ratios count, so smaller ones will do',
    );
  }
  return targets.map(({ adapter, digest, share = 1 }): AliasTarget => {
    const entry: AdapterEntry = findEntry(core, model, adapter);
    return { adapter: entry.name, share, ...(digest ? { digest: versionOf(entry, digest) } : {}) };
  });
}
