/** Adapters, aliases and the log of changes as JSON of the management routes. */
import type { AdapterEventInfo, AdapterInfo, AdapterWatchEvent, AliasInfo } from '../service/types.js';

/** Exactly the original's four fields, or all that is known. */
export function adapterJson(info: AdapterInfo, verbose: boolean): object {
  const short = { name: info.name, src: info.source, preload: info.preload, pin: info.pin };
  if (!verbose) return short;
  const { progress } = info;
  return {
    ...short,
    model: info.model,
    digest: info.digest,
    revision: info.revision,
    state: info.state,
    ...(info.error === undefined ? {} : { error: info.error }),
    ...(progress === undefined
      ? {}
      : { progress: { stage: progress.stage, done_bytes: progress.doneBytes, total_bytes: progress.totalBytes } }),
    options: info.options,
    ranks: info.ranks,
    scalings: info.scalings,
    target_modules: info.targetModules,
    features: info.features,
    warnings: info.warnings,
    ...(info.handler === undefined ? {} : { handler: info.handler }),
    bytes: info.bytes,
    running_rows: info.runningRows,
    created_at: timeJson(info.createdAt),
    updated_at: timeJson(info.updatedAt),
    loaded_at: timeJson(info.loadedAt),
    last_used_at: timeJson(info.lastUsedAt),
    ...(info.versions === undefined
      ? {}
      : {
          versions: info.versions.map(({ digest, source, createdAt }) => ({
            ...{ digest, src: source },
            created_at: timeJson(createdAt),
          })),
        }),
  };
}

/** An alias; `digest` stands only where a target has one. */
export function aliasJson(alias: AliasInfo): object {
  return {
    name: alias.name,
    model: alias.model,
    targets: alias.targets.map(({ adapter, digest, share }) => ({ adapter, ...(digest && { digest }), share })),
    revision: alias.revision,
    created_at: timeJson(alias.createdAt),
    updated_at: timeJson(alias.updatedAt),
  };
}

/** One line of the log; digests stand only where there are any. */
export function eventJson(event: AdapterEventInfo): object {
  return {
    revision: event.revision,
    at: timeJson(event.at),
    actor: event.actor,
    request_id: event.requestId,
    model: event.model,
    name: event.name,
    action: event.action,
    ...(event.digestBefore && { digest_before: event.digestBefore }),
    ...(event.digestAfter && { digest_after: event.digestAfter }),
    detail: event.detail,
  };
}

/** What a watcher is told, as one line. */
export function watchJson(event: AdapterWatchEvent): object {
  const token = event.resumeToken === '' ? {} : { resume_token: event.resumeToken };
  if (event.type === 'changed') return { type: event.type, adapter: adapterJson(event.adapter, true), ...token };
  if (event.type === 'alias') return { type: event.type, alias: aliasJson(event.alias), ...token };
  if (event.type === 'deleted') return { type: event.type, model: event.model, name: event.name, ...token };
  return { type: event.type, snapshot: event.snapshot, ...token };
}

function timeJson(milliseconds: number | undefined): string | undefined {
  return milliseconds === undefined ? undefined : new Date(milliseconds).toISOString();
}
