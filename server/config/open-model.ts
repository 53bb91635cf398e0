/** Finds models by their urls, which must lead to where models may be registered from, and fetches those that are elsewhere. */
import { readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { checkInside } from '../adapters/source.js';
import { AppError } from '../errors.js';
import { redactSource } from '../sources/source.js';
import type { LocalSource, SourceResolver } from '../sources/source-resolver.js';
import { asConfigError, ConfigError, NothingThere } from './config-error.js';
import { type ModelSettings, type ModelSource, resolveModelFolder } from './model-folder.js';
import { isRemoteModel, remoteWeights, withRevision } from './remote-model.js';

/** Where models may be registered from, and what holds for all of them. */
export interface ModelPlaces {
  /** Absolute folders; live. */
  readonly roots: readonly string[];
  /** Folder that relative urls start at; undefined = they are refused. */
  readonly store: string | undefined;
  readonly settings: ModelSettings;
  /** Brings remote models here. */
  readonly sources: Pick<SourceResolver, 'check' | 'open'>;
}

/** How a model is opened. */
export interface OpenOptions {
  /** True: the operator named it at the start, so that it may be anywhere, and needs no --allow-source. */
  readonly trusted?: boolean | undefined;
  /** What relative paths of trusted settings are relative to; default: the folder that the model lies in. */
  readonly cwd?: string | undefined;
  /** What was fetched of it before, see {@link FoundModel}. */
  readonly snapshot?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A model that is on this machine now. */
export interface FoundModel {
  readonly source: ModelSource;
  /** Where it came from, without secrets; undefined = it was here. */
  readonly origin?: string | undefined;
  /** Key of what was fetched, to open the same again without asking. */
  readonly snapshot?: string | undefined;
  /** Further folders that adapters may be read from: those that its files lie in. */
  readonly roots: readonly string[];
  /** Lets the cache remove what was fetched; until then it stays. Idempotent. */
  release(): void;
}

/**
 * Finds the model at a url, and fetches what is elsewhere: the whole folder, or the weights that its properties name.
 * @param url absolute path, `file:` URI, path relative to the model store, or a remote source
 * @throws AppError MODEL_SOURCE_INVALID, MODEL_SOURCE_FORBIDDEN, MODEL_INVALID, SOURCE_UNAVAILABLE, SOURCE_CORRUPT,
 * SOURCE_TOO_LARGE, SOURCE_CACHE_FULL; what the signal was aborted with
 */
export async function openModelUrl(
  url: string,
  name: string,
  places: ModelPlaces,
  { trusted = false, cwd, snapshot, signal }: OpenOptions = {},
): Promise<FoundModel> {
  const { roots, store, settings, sources } = places;
  const held: LocalSource[] = [];
  const release = () => {
    for (const local of held) local.release();
  };
  const fetch = async (source: string, free: boolean, known: string | undefined): Promise<LocalSource> => {
    const request = { source, kind: 'model', base: store ?? '/', trusted: free, snapshot: known, signal } as const;
    const local = await sources.open(request).catch(asModelError);
    held.push(local);
    return local;
  };
  try {
    const remote = isRemoteModel(url, store ?? '/') ? withRevision(url, undefined) : undefined;
    const whole = remote === undefined ? undefined : await fetch(remote, trusted, snapshot);
    const place = whole?.path ?? (trusted ? path.resolve(url) : await checked(pathOf(url, store), roots));
    const elsewhere = remoteWeights(place, settings);
    // What a fetched folder names was not named by the operator.
    const known = whole === undefined ? snapshot : undefined;
    const weights = elsewhere === undefined ? undefined : await fetch(elsewhere, trusted && whole === undefined, known);
    const brought = held.flatMap((local) => local.roots);
    // The operator's own folders may name any place; what others may write to, only where models may come from.
    const own = trusted || (store !== undefined && (await isInside(place, store)));
    const within = whole !== undefined ? brought : own ? undefined : [...roots, ...brought];
    const fetched = { weights: weights?.path, within };
    const source = resolveModelFolder(place, settings, cwd ?? path.dirname(place), name, fetched);
    const [first] = held;
    return {
      source,
      ...(first !== undefined && { origin: first.label, snapshot: first.snapshot }),
      roots: held.flatMap((local) => local.roots),
      release,
    };
  } catch (thrown) {
    release();
    const error = asConfigError(thrown);
    if (!(error instanceof ConfigError)) throw error;
    const reason = error instanceof NothingThere ? 'MODEL_SOURCE_INVALID' : 'MODEL_INVALID';
    // Whoever registers it gave no flag.
    throw new AppError(reason, error.message.replace(/^--model /, ''), { cause: error });
  }
}

/** Sources tell of adapters; here they are models. */
function asModelError(thrown: unknown): never {
  const error = AppError.from(thrown);
  const reasons = {
    ADAPTER_SOURCE_INVALID: 'MODEL_SOURCE_INVALID',
    ADAPTER_SOURCE_FORBIDDEN: 'MODEL_SOURCE_FORBIDDEN',
  } as const;
  const reason = reasons[error.reason as keyof typeof reasons];
  throw reason === undefined ? thrown : new AppError(reason, error.message, { cause: thrown });
}

/** Sub-folders and .gguf files of a model store that may be models, by name. */
export function modelsOfStore(store: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const entry of readdirSync(store).sort()) {
    const place = path.join(store, entry);
    const kind = statSync(place, { throwIfNoEntry: false });
    if (entry.startsWith('.') || kind === undefined) continue;
    if (kind.isDirectory()) found.set(entry, place);
    else if (/\.gguf$/i.test(entry)) found.set(entry.replace(/\.gguf$/i, ''), place);
  }
  return found;
}

function pathOf(url: string, store: string | undefined): string {
  const fail = (what: string) =>
    new AppError('MODEL_SOURCE_INVALID', `url ${JSON.stringify(redactSource(url))}: ${what}`);
  if (url === '' || url.includes('\0')) throw fail('it is no path');
  if (/^file:/i.test(url)) {
    try {
      return path.resolve(fileURLToPath(url));
    } catch (error) {
      throw fail(`not a usable file URI: ${(error as Error).message}`);
    }
  }
  if (path.isAbsolute(url)) return path.resolve(url);
  if (store === undefined) throw fail('it must be an absolute path or a file: URI (there is no --model-store)');
  return path.resolve(store, url);
}

const isInside = (place: string, root: string): Promise<boolean> =>
  checkInside(place, [root]).then(
    () => true,
    () => false,
  );

async function checked(place: string, roots: readonly string[]): Promise<string> {
  try {
    return await checkInside(place, roots);
  } catch (thrown) {
    const error = AppError.from(thrown);
    if (error.reason !== 'ADAPTER_SOURCE_FORBIDDEN') {
      throw new AppError('MODEL_SOURCE_INVALID', error.message, { cause: thrown });
    }
    const what = `${JSON.stringify(place)} lies outside the folders that models may be registered from (--model-store, --allow-path)`;
    throw new AppError('MODEL_SOURCE_FORBIDDEN', what, { cause: thrown });
  }
}
