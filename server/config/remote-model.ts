/** Models whose files are elsewhere: at S3, at a hub, or in an archive. What is remote is told here without any network. */
import { existsSync, statSync } from 'node:fs';
import path from 'node:path';
import { isHubId, isRemoteUri, redactSource } from '../sources/source.js';
import { ConfigError } from './config-error.js';
import { isUsableModelName, type ModelSettings, splitModelName } from './model-folder.js';
import { modelOf, propertiesOf } from './model-properties.js';

/** A model of the start that is to be fetched first. */
export interface RemoteModel {
  readonly name: string;
  /** The remote source, or the local folder whose properties name one. */
  readonly url: string;
  readonly settings: ModelSettings;
  /** What relative paths of the settings are relative to. */
  readonly cwd: string;
}

/**
 * True for a source that is not on this machine. `org/name` is a hub's repository only where there is not even a folder
 * `org`: a slip in a path must not ask a hub.
 */
export function isRemoteModel(source: string, base: string): boolean {
  return isRemoteUri(source) || (isHubId(source) && !existsSync(path.resolve(base, path.dirname(source))));
}

/** The id of a hub as a URI with the revision, where there is one; any other source as it is. */
export function withRevision(source: string, revision: string | undefined): string {
  const hub = /^(?:hf:\/\/)?([^/@]+\/[^/@]+)(\/.*)?$/.exec(isRemoteUri(source) && !/^hf:/i.test(source) ? '' : source);
  if (hub === null || revision === undefined) return isHubId(source) ? `hf://${source}` : source;
  return `hf://${hub[1]}@${revision.replaceAll('/', '%2F')}${hub[2] ?? ''}`;
}

/** Where the weights are that a local folder leads to; undefined = on this machine. Throws ConfigError for bad keys. */
export function remoteWeights(place: string, { environment }: ModelSettings): string | undefined {
  if (!statSync(place, { throwIfNoEntry: false })?.isDirectory()) return undefined;
  const properties = propertiesOf(place, false, environment);
  const { modelId } = modelOf(properties, place, false);
  if (modelId === undefined || !isRemoteModel(modelId, place)) return undefined;
  return withRevision(modelId, properties.revision);
}

/**
 * What a `--model` says, where it leads to a remote source; undefined where all is on this machine.
 * @throws ConfigError where it has no usable name
 */
export function remoteModelOf(given: string, settings: ModelSettings, cwd: string): RemoteModel | undefined {
  const { name, folder } = splitModelName(given);
  if (folder === '') return undefined;
  const direct = isRemoteModel(folder, cwd);
  if (!direct && remoteWeights(path.resolve(cwd, folder), settings) === undefined) return undefined;
  const revision = settings.environment.defaults.find(({ key }) => key === 'option.revision')?.value;
  const url = direct ? withRevision(folder, revision) : path.resolve(cwd, folder);
  const chosen = name ?? nameOfSource(folder);
  if (!isUsableModelName(chosen)) {
    throw new ConfigError(
      `--model ${redactSource(given)}: "${chosen}" is no usable model name (letters, digits, ".", "_", "-"); name it with NAME=URL`,
    );
  }
  return { name: chosen, url, settings, cwd };
}

/** The last part of a source, without revision, query, and what an archive or a weight file ends with. */
function nameOfSource(source: string): string {
  const bare = source.replace(/[?#].*$/, '').replace(/@[^/]*$/, '');
  return path.basename(bare).replace(/\.(tar\.gz|tgz|tar|zip|gguf)$/i, '');
}
