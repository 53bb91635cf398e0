/** Models that are registered while the server runs: their url must lead to where models may be registered from. */
import { readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { checkInside } from '../adapters/source.js';
import { AppError } from '../errors.js';
import { ConfigError } from './config-error.js';
import { type ModelSettings, type ModelSource, resolveModelFolder } from './model-folder.js';

/** Where models may be registered from, and what holds for all of them. */
export interface ModelPlaces {
  /** Absolute folders; live. */
  readonly roots: readonly string[];
  /** Folder that relative urls start at; undefined = they are refused. */
  readonly store: string | undefined;
  readonly settings: ModelSettings;
}

/**
 * Finds the model at a url.
 * @param url absolute path, `file:` URI, or path relative to the model store
 * @throws AppError MODEL_SOURCE_INVALID, MODEL_SOURCE_FORBIDDEN, MODEL_INVALID
 */
export async function openModelUrl(url: string, name: string, places: ModelPlaces): Promise<ModelSource> {
  const place = await checked(pathOf(url, places.store), places.roots);
  try {
    return resolveModelFolder(`${place}`, places.settings, path.dirname(place), name);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new AppError('MODEL_INVALID', error.message, { cause: error });
  }
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
  const fail = (what: string) => new AppError('MODEL_SOURCE_INVALID', `url ${JSON.stringify(url)}: ${what}`);
  if (url === '' || url.includes('\0')) throw fail('it is no path');
  if (/^file:/i.test(url)) {
    try {
      return path.resolve(fileURLToPath(url));
    } catch (error) {
      throw fail(`not a usable file URI: ${(error as Error).message}`);
    }
  }
  if (/^[a-z][a-z0-9+.-]+:\/\//i.test(url)) throw fail('only folders and .gguf files are served');
  if (path.isAbsolute(url)) return path.resolve(url);
  if (store === undefined) throw fail('it must be an absolute path or a file: URI (there is no --model-store)');
  return path.resolve(store, url);
}

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
