/** `--merge NAME[:WEIGHT],...` and `option.merge`: which adapters become part of the model's weights. */
import { existsSync, statSync } from 'node:fs';
import path from 'node:path';
import { realPathOf } from '../adapters/real-path.js';
import { readRegularSync } from '../regular-file.js';
import { ConfigError } from './config-error.js';

/** An adapter to merge. */
export interface MergeSource {
  readonly name: string;
  /** Its folder, absolute. */
  readonly folder: string;
  readonly weight: number;
}

/**
 * @param text for example `pirate` or `pirate:0.5,french:0.5`
 * @param where the flag or key that says so, with the text, for messages
 * @param adapterFolders folders whose sub-folders are adapters; a name may also be a path
 */
export function parseMerge(text: string, where: string, adapterFolders: readonly string[], cwd: string): MergeSource[] {
  const sources = text.split(',').map((part) => {
    const [, name, given] = /^(.*?)(?::([^:/\\]*))?$/.exec(part.trim())!;
    const weight = given === undefined ? 1 : Number(given);
    if (!name || given === '' || !Number.isFinite(weight)) {
      throw new ConfigError(`${where}: "${part}" must be NAME or NAME:WEIGHT, for example pirate:0.5`);
    }
    const places = [...adapterFolders.map((folder) => path.join(folder, name)), path.resolve(cwd, name)];
    const folder = places.find((place) => statSync(place, { throwIfNoEntry: false })?.isDirectory());
    if (folder === undefined)
      throw new ConfigError(`${where}: there is no adapter "${name}" (looked for ${places.join(', ')})`);
    return { name, folder, weight };
  });
  requireDistinct(sources, where);
  return sources;
}

/**
 * Named twice, by slip most likely, an adapter would be merged with the sum of its weights.
 * @param where what says so, for the message
 * @throws ConfigError
 */
export function requireDistinct(sources: readonly MergeSource[], where: string): void {
  const seen = new Map<string, MergeSource>();
  for (const source of sources) {
    const place = realPathOf(source.folder);
    const before = seen.get(place);
    if (before !== undefined) {
      const [one, other] = [before.name, source.name];
      const both = one === other ? `"${one}" is named twice` : `"${one}" and "${other}" are one adapter`;
      throw new ConfigError(`${where}: ${both}; it must be named once, with its whole weight`);
    }
    seen.set(place, source);
  }
}

/** The base of a folder that holds a PEFT adapter instead of a model; undefined for any other folder. */
export function adapterAsModel(folder: string): { readonly base: string; readonly merge: MergeSource } | undefined {
  const file = path.join(folder, 'adapter_config.json');
  if (existsSync(path.join(folder, 'config.json')) || !existsSync(file)) return undefined;
  let named: unknown;
  try {
    named = (JSON.parse(readRegularSync(file).toString()) as { base_model_name_or_path?: unknown } | null)
      ?.base_model_name_or_path;
  } catch (error) {
    throw new ConfigError(`${file}: not JSON: ${(error as Error).message}`, { cause: error });
  }
  if (typeof named !== 'string' || named === '') {
    throw new ConfigError(
      `${file}: the folder is an adapter, but its config names no base model (base_model_name_or_path)`,
    );
  }
  const base = path.resolve(folder, named);
  if (!existsSync(path.join(base, 'config.json'))) {
    throw new ConfigError(
      `${file}: the folder is an adapter for ${named}, which is no model folder here; use --model BASE --merge ${folder}`,
    );
  }
  return { base, merge: { name: path.basename(folder), folder, weight: 1 } };
}
