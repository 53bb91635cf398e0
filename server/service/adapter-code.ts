/** Modules that adapters bring: found when an adapter is registered or asked for, run by somebody else, if at all. */

import { type AdapterEntry, digestOf } from '../adapters/adapter-entry.js';
import { type AdapterModule, findAdapterModule } from '../adapters/adapter-module.js';
import { AppError } from '../errors.js';
import type { ServedModels } from './served-models.js';

/** What a module is run for. */
export interface CodeOf {
  readonly model: string;
  /** Name of the adapter. */
  readonly name: string;
  readonly source: string;
  readonly module: AdapterModule;
  /** Settings of the adapter. */
  readonly preload: boolean;
  readonly pin: boolean;
  readonly options: Readonly<Record<string, string>>;
  /** Changes with the adapter's content and settings, and whenever it is registered anew. */
  readonly version: string;
}

/** A module that was started before its adapter is registered. */
export interface StartedCode {
  /** The adapter is registered: requests may come. */
  take(of: CodeOf): void;
  /** It is not. */
  discard(): void;
}

/** Runs modules of adapters. */
export interface AdapterCode {
  /** Why a module is not run; undefined = it is. */
  refusal(model: string, module: AdapterModule): string | undefined;
  /** Starts a module. Throws ADAPTER_INVALID with its message, QUEUE_FULL. */
  start(of: CodeOf): Promise<StartedCode>;
  /** The adapter is gone. */
  forget(model: string, name: string): void;
}

/** Why a module is not run; undefined = it is. */
export function codeRefusal(code: AdapterCode | undefined, model: string, module: AdapterModule): string | undefined {
  return code === undefined ? 'no code of adapters is run here' : code.refusal(model, module);
}

/** The module of an entry that is on this machine. What is fetched from elsewhere comes without its code. */
export async function moduleOf(entry: AdapterEntry): Promise<AdapterModule | undefined> {
  if (entry.folder === '') return undefined;
  if (entry.module === undefined) entry.module = (await findAdapterModule(entry.folder, entry.roots)) ?? null;
  return entry.module ?? undefined;
}

/** What the module of an entry is run for. */
export function codeOf(entry: AdapterEntry, module: AdapterModule): CodeOf {
  const { model, name, source, preload, pin, options, updatedAt } = entry;
  const version = JSON.stringify([digestOf(entry), module.path, updatedAt, options]);
  return { model, name, source, module, preload, pin, options, version };
}

/**
 * Starts the module of an entry that a name is to lead to, where it has one that is run.
 * @returns undefined where there is nothing to run
 */
export async function startCode(code: AdapterCode | undefined, entry: AdapterEntry): Promise<StartedCode | undefined> {
  const module = await moduleOf(entry);
  if (code === undefined || module === undefined || code.refusal(entry.model, module) !== undefined) return undefined;
  return code.start(codeOf(entry, module));
}

/** What the core of adapter management offers to find an adapter's module. */
interface CodeCore {
  readonly models: ServedModels;
  readonly code?: AdapterCode | undefined;
  readonly loader: { retry(entry: AdapterEntry): Promise<void> };
  readonly registries: ReadonlyMap<
    string,
    {
      get(name: string): AdapterEntry | undefined;
      alias(
        name: string,
      ): { readonly targets: readonly { adapter: string; digest?: string | undefined }[] } | undefined;
    }
  >;
}

/**
 * The code that answers for a name; undefined = none, also where there is no such name.
 * @throws INVALID_REQUEST for an alias that leads to code in one of several ways: a request is one adapter's or another's
 */
export async function codeOfName(core: CodeCore, model: string, given: string): Promise<CodeOf | undefined> {
  const { code } = core;
  const registry = core.registries.get(model);
  if (code === undefined || registry === undefined) return undefined;
  const name = given.normalize('NFC');
  const find = async (adapter: string): Promise<CodeOf | undefined> => {
    const entry = registry.get(adapter);
    // A request that finds it mended is its handler's.
    if (entry !== undefined) await core.loader.retry(entry);
    if (entry === undefined || entry.error !== undefined) return undefined;
    // A folder that is gone is told of by whoever loads the adapter.
    const module = await moduleOf(entry).catch(() => undefined);
    if (module === undefined || code.refusal(model, module) !== undefined) return undefined;
    return codeOf(entry, module);
  };
  if (registry.get(name) !== undefined) return find(name);
  const targets = registry.alias(name)?.targets ?? [];
  const [first, ...others] = targets;
  if (first !== undefined && others.length === 0 && first.digest === undefined) return find(first.adapter);
  for (const { adapter } of targets) {
    if ((await find(adapter)) === undefined) continue;
    throw new AppError(
      'INVALID_REQUEST',
      `alias ${JSON.stringify(name)} leads by shares or to one version of ${JSON.stringify(adapter)}, which brings a ` +
        'handler; name the adapter itself',
      { metadata: { adapter: name, model } },
    );
  }
  return undefined;
}
