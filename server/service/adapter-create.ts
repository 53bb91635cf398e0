/** Registering an adapter: reserved, read, loaded, stored, and only then to be found. */
import type { AdapterEntry } from '../adapters/adapter-entry.js';
import type { AdapterRegistry } from '../adapters/registry.js';
import type { ResidentLease } from '../adapters/residency.js';
import { AppError } from '../errors.js';
import { RegistryConflict } from '../registry/types.js';
import { redactSource } from '../sources/source.js';
import { codeOf, codeRefusal, type StartedCode, startCode } from './adapter-code.js';
import {
  type AdapterCore,
  checkedName,
  checkSource,
  exists,
  newEntry,
  point,
  registryOf,
  requireSame,
} from './adapter-core.js';
import { canceled, loadFailure } from './adapter-leases.js';
import { recordOf } from './adapter-records.js';
import type { CallContext, CreateAdapterRequest } from './types.js';
import { untilLeft } from './until-left.js';

/** Refuses settings that contradict each other. */
export function checkPin(pin: boolean, preload: boolean): void {
  if (!pin || preload) return;
  const description = 'cannot be true where preload is false: pinned weights stay loaded';
  throw new AppError('INVALID_REQUEST', `pin ${description}`, { violations: [{ field: 'pin', description }] });
}

/** The same error with the adapter's name. */
export function named(thrown: unknown, model: string, name: string): AppError {
  const error = AppError.from(thrown);
  const prefix = `adapter ${JSON.stringify(name)}`;
  const message = error.message.startsWith(prefix) ? error.message : `${prefix}: ${error.message}`;
  return new AppError(error.reason, message, {
    metadata: { ...error.metadata, adapter: name, model },
    violations: error.violations,
    ...(error.retryAfterMs === undefined ? {} : { retryAfterMs: error.retryAfterMs }),
    cause: thrown,
  });
}

/**
 * Registers a new name. Answers when the adapter is usable, or with `synchronous` false once it is stored.
 * @throws AppError; then nothing is registered. REGISTRY_UNAVAILABLE may come after it was stored all the same
 */
export async function createAdapter(
  core: AdapterCore,
  model: string,
  request: CreateAdapterRequest,
  call: CallContext,
): Promise<AdapterEntry> {
  core.models.withLora(model);
  const name = checkedName(request.name, 'adapter');
  const preload = request.preload ?? true;
  const pin = request.pin ?? false;
  checkPin(pin, preload);
  const registry = registryOf(core, model);
  if (!registry.reserve(name)) throw exists(model, name, registry);
  const { source, workflow, options = {} } = request;
  const later = request.synchronous === false;
  try {
    const entry = newEntry(core, model, name, { source, preload, pin, workflow, options: { ...options } });
    if (call.signal.aborted) throw canceled(call.signal);
    let lease: ResidentLease | undefined;
    if (preload && !later) lease = await untilLeft(core.loader.lease(entry), call.signal, (late) => late.release());
    else await untilLeft(checkSource(core, entry), call.signal);
    let started: StartedCode | undefined;
    try {
      started = await untilLeft(startCode(core.code, entry), call.signal, (late) => late?.discard());
      await core.book.exclusive(model, name, () => store(core, registry, entry, call));
      if (entry.module) started?.take(codeOf(entry, entry.module));
      started = undefined;
    } finally {
      started?.discard();
      lease?.release();
    }
    core.log.info({ model, adapter: name, digest: entry.summary?.digest }, 'adapter registered');
    noteModule(core, entry);
    if (preload && later) void loadLater(core, entry);
    return entry;
  } catch (thrown) {
    throw named(thrown, model, name);
  } finally {
    registry.unreserve(name);
  }
}

/** Tells of code that is not run. */
export function noteModule({ code, log }: AdapterCore, { model, name, module }: AdapterEntry): void {
  const why = module ? codeRefusal(code, model, module) : undefined;
  if (why !== undefined) log.warn({ model, adapter: name }, `${module!.file} in its folder is not run: ${why}`);
}

async function store(
  core: AdapterCore,
  registry: AdapterRegistry,
  entry: AdapterEntry,
  call: CallContext,
): Promise<void> {
  const { model, name } = entry;
  // Another process may have registered the name while this one read the files.
  if (registry.get(name) !== undefined || registry.alias(name) !== undefined) throw exists(model, name, registry);
  requireSame(core, model, registry);
  const record = recordOf(entry);
  const note = { action: 'create', digestAfter: record.digest, detail: { source: redactSource(record.source) } };
  try {
    entry.revision = await core.book.commit(registry, entry, record, note, call);
  } catch (error) {
    throw error instanceof RegistryConflict ? exists(model, name, registry) : error;
  }
  requireSame(core, model, registry);
  entry.versions = record.versions;
  point(core, registry, entry);
}

/** True where others alone keep an adapter out of the memory: a request that needs it may find room. */
function mayFitLater({ residency }: AdapterCore, { summary }: AdapterEntry, error: AppError): boolean {
  return error.reason === 'ADAPTER_MEMORY_EXHAUSTED' && summary !== undefined && summary.bytes <= residency.budget;
}

/** How an adapter is loaded whose name is known already. */
export interface LoadLater {
  /** False: fail rather than evict another adapter. Default true. */
  readonly evict?: boolean;
  /** Told in the log's place where others alone keep the adapter out of the memory. */
  readonly onFull?: ((entry: AdapterEntry) => void) | undefined;
}

/** Loads an adapter whose name is known already; a failure is told by its state, and by the log. */
export async function loadLater(
  core: AdapterCore,
  entry: AdapterEntry,
  { evict = true, onFull }: LoadLater = {},
): Promise<AppError | undefined> {
  try {
    const lease = await core.loader.lease(entry, { evict });
    lease.release();
    return undefined;
  } catch (thrown) {
    const error = loadFailure(entry, thrown);
    if (onFull !== undefined && mayFitLater(core, entry, error)) onFull(entry);
    else core.log.warn({ model: entry.model, adapter: entry.name, err: error }, error.message);
    core.journal.changed(entry.model, entry.name);
    return error;
  }
}
