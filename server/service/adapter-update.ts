/** Changing a registered adapter: the new content is read and loaded first, then the name changes in one step. */
import { isDeepStrictEqual } from 'node:util';
import { type AdapterEntry, digestOf } from '../adapters/adapter-entry.js';
import type { AdapterRegistry } from '../adapters/registry.js';
import type { ResidentLease } from '../adapters/residency.js';
import { AppError } from '../errors.js';
import { redactSource } from '../sources/source.js';
import { codeOf, type StartedCode, startCode } from './adapter-code.js';
import {
  type AdapterCore,
  entryOfVersion,
  findEntry,
  newEntry,
  point,
  registryOf,
  requireSame,
} from './adapter-core.js';
import { checkPin, named, noteModule } from './adapter-create.js';
import { canceled } from './adapter-leases.js';
import { recordOf, versionsOf } from './adapter-records.js';
import { checkExpected, versionOf } from './adapter-versions.js';
import type { CallContext, UpdateAdapterRequest } from './types.js';
import { untilLeft } from './until-left.js';

/**
 * Changes a name as a whole or not at all.
 * @param refresh brings a name up to date with the registry, after another process has changed it
 * @throws AppError ADAPTER_NOT_FOUND, VERSION_CONFLICT, VERSION_NOT_FOUND, and what reading and loading throw
 */
export async function updateAdapter(
  core: AdapterCore,
  model: string,
  request: UpdateAdapterRequest,
  call: CallContext,
  refresh: (model: string, name: string) => Promise<void>,
): Promise<AdapterEntry> {
  core.models.withLora(model);
  const name = request.name.normalize('NFC');
  const registry = registryOf(core, model);
  const before = findEntry(core, model, name);
  if (request.source !== undefined && request.digest !== undefined) {
    const description = 'cannot be given with a source: the one takes an earlier version, the other a new one';
    throw new AppError('INVALID_REQUEST', `digest ${description}`, { violations: [{ field: 'digest', description }] });
  }
  checkExpected(before, request.expectedDigest);
  const { preload, pin } = settings(before, request);
  checkPin(pin, preload);
  if (call.signal.aborted) throw canceled(call.signal);
  const content = contentOf(core, before, request);
  let lease: ResidentLease | undefined;
  let started: StartedCode | undefined;
  try {
    // Read it in any case: what cannot be used must not replace what can.
    if (preload && (content !== undefined || !before.preload || (pin && !before.pin))) {
      lease = await untilLeft(core.loader.lease(content ?? before), call.signal, (late) => late.release());
    } else if (content !== undefined) await untilLeft(core.loader.inspect(content), call.signal);
    const { options } = settings(before, request);
    if (content !== undefined || !isDeepStrictEqual(options, { ...before.options })) {
      const starting = startCode(core.code, { ...(content ?? before), options });
      started = await untilLeft(starting, call.signal, (late) => late?.discard());
    }
    const entry = await core.book.change(
      model,
      name,
      () => change(core, registry, before, request, content, call),
      refresh,
    );
    if (entry.module) started?.take(codeOf(entry, entry.module));
    started = undefined;
    if (content !== undefined) noteModule(core, entry);
    return entry;
  } catch (thrown) {
    throw named(thrown, model, name);
  } finally {
    started?.discard();
    lease?.release();
  }
}

/** The entry of the new content; undefined where the content stays. */
function contentOf(core: AdapterCore, before: AdapterEntry, request: UpdateAdapterRequest): AdapterEntry | undefined {
  const { model, name } = before;
  if (request.digest !== undefined) {
    const digest = versionOf(before, request.digest);
    return digest === digestOf(before) && before.error === undefined ? undefined : entryOfVersion(core, before, digest);
  }
  if (request.source === undefined) return undefined;
  const { preload, pin, fromFolder, source } = before;
  const inFolder = fromFolder && request.source === source;
  return newEntry(core, model, name, {
    ...{ preload, pin, source: request.source, fromFolder: inFolder },
    ...(inFolder && { folder: before.folder, roots: before.roots }),
  });
}

function settings(entry: AdapterEntry, request: UpdateAdapterRequest) {
  const pin = request.pin ?? entry.pin;
  // Pinned weights stay loaded, so who pins asks for that as well, unless they say otherwise.
  const preload = request.preload ?? (request.pin === true ? true : entry.preload);
  return { pin, preload, options: { ...(request.options ?? entry.options), ...request.mergeOptions } };
}

/** The step itself: from what the name is now, whoever has changed it since the request began. */
async function change(
  core: AdapterCore,
  registry: AdapterRegistry,
  { model }: AdapterEntry,
  request: UpdateAdapterRequest,
  content: AdapterEntry | undefined,
  call: CallContext,
): Promise<AdapterEntry> {
  // What was read for one engine is nothing to another.
  requireSame(core, model, registry);
  const current = findEntry(core, model, request.name);
  checkExpected(current, request.expectedDigest);
  const { preload, pin, options } = settings(current, request);
  checkPin(pin, preload);
  const unchanged =
    content === undefined && isDeepStrictEqual({ preload, pin, options }, pick(current)) && current.error === undefined;
  if (unchanged) return current;
  const from = content ?? current;
  const next: AdapterEntry = {
    ...from,
    ...{ preload, pin, options },
    workflow: current.workflow,
    createdAt: current.createdAt,
    updatedAt: Date.now(),
    versions: versionsOf(current),
    usage: current.usage,
    error: content === undefined ? current.error : undefined,
    state: 'new',
    retained: false,
  };
  const record = recordOf(next);
  const detail = {
    ...(content !== undefined && { source: redactSource(next.source) }),
    ...(request.digest !== undefined && { rollback: true }),
    ...(preload !== current.preload && { preload }),
    ...(pin !== current.pin && { pin }),
    ...(!isDeepStrictEqual(options, current.options) && { options }),
  };
  const note = { action: 'update', digestBefore: digestOf(current), digestAfter: record.digest, detail };
  next.revision = await core.book.commit(registry, next, record, note, call);
  requireSame(core, model, registry);
  next.versions = record.versions;
  point(core, registry, next);
  core.log.info({ model, adapter: next.name, ...note, detail: undefined, ...detail }, 'adapter updated');
  return next;
}

const pick = ({ preload, pin, options }: AdapterEntry) => ({ preload, pin, options: { ...options } });
