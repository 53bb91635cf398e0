/**
 * Which files of a source are needed: what adapters and models are read from, nothing else. Pickles and code are never
 * fetched.
 */
import { AppError } from '../errors.js';
import type { RemoteFile } from './origin.js';

/** What a source is opened as. */
export type SourceKind = 'adapter' | 'model';

const ADAPTER_CONFIG = 'adapter_config.json';
const ADAPTER_WEIGHTS = /^adapter_model(-\d+-of-\d+)?\.safetensors$|^adapter_model\.safetensors\.index\.json$/;
const MODEL_FILE =
  /^(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|chat_template)\.json$|^chat_template\.jinja$|^serving\.properties$/;
/** Tokens and chat templates of an adapter's own; see server/adapters/adapter-text.ts. */
const ADAPTER_TEXT = /^tokenizer(_config)?\.json$|^chat_template\.jinja$/;
const MORE_TEMPLATES = 'additional_chat_templates';
const SINGLE_WEIGHTS = 'model.safetensors';
const WEIGHTS_INDEX = 'model.safetensors.index.json';
const WEIGHTS_SHARD = /^model-\d+-of-\d+\.safetensors$/;
const GGUF = /\.gguf$/i;
const PICKLE = /\.(bin|pt|pth|ckpt|pkl)$/i;

type Listed = Pick<RemoteFile, 'path' | 'size'>;

/** Files of one folder, by their names. */
function filesIn<T extends Listed>(files: readonly T[], folder: string): Map<string, T> {
  const prefix = folder === '' ? '' : `${folder}/`;
  return new Map(
    files
      .filter(({ path }) => path.startsWith(prefix) && !path.slice(prefix.length).includes('/'))
      .map((file) => [file.path.slice(prefix.length), file]),
  );
}

/** Names of the folders directly in `folder`. */
function foldersIn(files: readonly Listed[], folder: string): string[] {
  const prefix = folder === '' ? '' : `${folder}/`;
  const names = new Set<string>();
  for (const { path } of files) {
    const rest = path.startsWith(prefix) ? path.slice(prefix.length) : '';
    if (rest.includes('/')) names.add(rest.slice(0, rest.indexOf('/')));
  }
  return [...names].sort();
}

/** The files of the adapter in a folder; empty when there is none. */
function adapterFiles<T extends Listed>(files: readonly T[], folder: string): T[] {
  const here = filesIn(files, folder);
  if (here.has(ADAPTER_CONFIG)) {
    const wanted = (name: string) => name === ADAPTER_CONFIG || ADAPTER_WEIGHTS.test(name) || ADAPTER_TEXT.test(name);
    const templates = filesIn(files, folder === '' ? MORE_TEMPLATES : `${folder}/${MORE_TEMPLATES}`);
    return [
      ...[...here].filter(([name]) => wanted(name)).map(([, file]) => file),
      ...[...templates].filter(([name]) => name.endsWith('.jinja')).map(([, file]) => file),
    ];
  }
  const gguf = [...here].filter(([name]) => GGUF.test(name)).map(([, file]) => file);
  return gguf.length === 1 ? gguf : [];
}

/**
 * The files to fetch of a source.
 * @param label the source, for messages
 * @throws AppError ADAPTER_SOURCE_INVALID where there is neither an adapter nor a model, or several
 */
export function wantedFiles<T extends Listed>(files: readonly T[], kind: SourceKind, label: string): T[] {
  const fail = (what: string) => new AppError('ADAPTER_SOURCE_INVALID', `${label}: ${what}`);
  if (files.length === 0) throw fail('there is nothing');
  // Names of an object store may hold anything.
  const plain = files.filter(({ path }) => path.split('/').every((part) => !/^\.{0,2}$|[\0\\]/.test(part)));
  return kind === 'adapter' ? wantedOfAdapter(plain, fail) : wantedOfModel(plain, fail);
}

function wantedOfAdapter<T extends Listed>(files: readonly T[], fail: (what: string) => AppError): T[] {
  const here = adapterFiles(files, '');
  if (here.length > 0) return here;
  const below = foldersIn(files, '').filter((folder) => adapterFiles(files, folder).length > 0);
  if (below.length === 1) return adapterFiles(files, below[0]!);
  if (below.length > 1) {
    throw fail(`there are several adapters (${below.slice(0, 20).join(', ')}); name one of them`);
  }
  const deep = files.map(({ path }) => path).filter((path) => path.endsWith(`/${ADAPTER_CONFIG}`));
  if (deep.length > 0) {
    throw fail(`${deep.slice(0, 10).join(', ')}: too deep; it must be at the top, or in a folder there`);
  }
  const names = files.slice(0, 10).map(({ path }) => path);
  throw fail(`there is no ${ADAPTER_CONFIG} among its ${files.length} files (${names.join(', ')})`);
}

function wantedOfModel<T extends Listed>(files: readonly T[], fail: (what: string) => AppError): T[] {
  const folder = modelFolder(files);
  const here = filesIn(files, folder);
  const inside = folder === '' ? 'adapters' : `${folder}/adapters`;
  const adapters = foldersIn(files, inside).flatMap((name) => adapterFiles(files, `${inside}/${name}`));
  const templates = filesIn(files, folder === '' ? MORE_TEMPLATES : `${folder}/${MORE_TEMPLATES}`);
  const small = [
    ...[...here].filter(([name]) => MODEL_FILE.test(name)).map(([, file]) => file),
    ...[...templates].filter(([name]) => name.endsWith('.jinja')).map(([, file]) => file),
  ];
  if (here.has('config.json')) return [...small, ...modelWeights(here, fail), ...adapters];
  const gguf = [...here].filter(([name]) => GGUF.test(name)).map(([, file]) => file);
  if (gguf.length === 1) return [...gguf, ...adapters];
  if (gguf.length > 1) {
    const names = gguf.map(({ path }) => path);
    throw fail(`there are several .gguf files (${names.slice(0, 20).join(', ')}); name one of them`);
  }
  // A folder whose properties name the place of the weights.
  if (here.has('serving.properties')) return [...small, ...adapters];
  throw fail('there is no config.json and no .gguf file');
}

/** The folder of the model: the whole, or the only folder in it, as archives have it. */
function modelFolder(files: readonly Listed[]): string {
  const isModel = (folder: string) =>
    [...filesIn(files, folder).keys()].some((name) => MODEL_FILE.test(name) || GGUF.test(name));
  const below = foldersIn(files, '').filter(isModel);
  return !isModel('') && below.length === 1 ? below[0]! : '';
}

function modelWeights<T extends Listed>(here: ReadonlyMap<string, T>, fail: (what: string) => AppError): T[] {
  const sharded = here.has(WEIGHTS_INDEX) && !here.has(SINGLE_WEIGHTS);
  const isWeights = (name: string) =>
    sharded ? name === WEIGHTS_INDEX || WEIGHTS_SHARD.test(name) : name === SINGLE_WEIGHTS;
  const weights = [...here].filter(([name]) => isWeights(name)).map(([, file]) => file);
  if (weights.length > 0) return weights;
  const pickle = [...here.keys()].find((name) => PICKLE.test(name));
  throw fail(
    pickle === undefined
      ? 'there is no model.safetensors'
      : `the weights are only there as ${pickle}, a pickle, which can run code; model.safetensors would be right`,
  );
}

/** What to open of the fetched files, relative to their folder: '' for all, else a folder in it or a GGUF file. */
export function entryOf(files: readonly Listed[], kind: SourceKind): string {
  const folder = kind === 'model' ? modelFolder(files) : '';
  const here = filesIn(files, folder);
  const gguf = [...here].find(([name]) => GGUF.test(name));
  return gguf !== undefined && !here.has('config.json') && !here.has(ADAPTER_CONFIG) ? gguf[1].path : folder;
}
