/** The tensors of an adapter: one safetensors file, or shards named by an index. */
import { join } from 'node:path';
import { AppError, type ErrorReason } from '../errors.js';
import { fileCalls } from './file-calls.js';
import type { Recent } from './recent.js';
import { openSafetensors, type SafetensorsFile, type TensorInfo } from './safetensors.js';
import type { SafetensorsHeader } from './safetensors-header.js';
import { isJsonObject, type JsonValue, parseStrictJson } from './strict-json.js';
import { type ReadInto, readTensors, type TensorWindow } from './tensor-windows.js';
import { readingFiles } from './unreadable.js';
import type { Windows } from './windows.js';

/** Longest index that is read. */
const MAX_INDEX_BYTES = 16 * 1024 * 1024;
const MAX_SHARDS = 1000;

/** Open tensors of one or several files. */
export interface SafetensorsSet {
  /** By name; `label` is the file's name. */
  readonly tensors: ReadonlyMap<string, TensorInfo & { readonly label: string }>;
  /** As {@link SafetensorsFile.readRaw}. */
  readRaw(name: string): Promise<Buffer>;
  /** The tensors of these names in this order, as {@link readTensors} gives them. */
  pass(names: readonly string[], windows: Windows): AsyncIterable<TensorWindow>;
  close(): Promise<void>;
}

/** Where the files may lie and how faults are reported. */
export interface OpenSetOptions {
  readonly reason: ErrorReason;
  /** Longest header read of each file, in bytes. */
  readonly maxHeaderBytes: number;
  /** Real path of a file, or an AppError if it lies where nothing may be read. */
  checkPath(path: string): Promise<string>;
  /** Headers that need not be parsed again. */
  readonly headers?: Recent<SafetensorsHeader> | undefined;
}

/** The tensors of files that are alone, with their labels: the same ones for a header that is known. */
const labelled = new WeakMap<ReadonlyMap<string, TensorInfo>, Map<string, TensorInfo & { label: string }>>();

function parseIndex(text: Uint8Array, label: string, fail: (what: string) => AppError): Map<string, string> {
  let root: JsonValue;
  try {
    root = parseStrictJson(text);
  } catch (error) {
    throw fail(`${label}: not valid JSON: ${(error as Error).message}`);
  }
  const map = isJsonObject(root) ? root.weight_map : undefined;
  if (!isJsonObject(map)) throw fail(`${label}: there is no weight_map object`);
  const shards = new Map<string, string>();
  for (const [tensor, file] of Object.entries(map)) {
    if (typeof file !== 'string' || !/^[^/\\\0]+\.safetensors$/.test(file)) {
      throw fail(
        `${label}: tensor ${JSON.stringify(tensor)} is said to be in ${JSON.stringify(file)}; ` +
          'the name of a .safetensors file of the same folder would be right',
      );
    }
    shards.set(tensor, file);
  }
  return shards;
}

async function openAll(
  folder: string,
  labels: readonly string[],
  options: OpenSetOptions,
): Promise<Map<string, SafetensorsFile>> {
  const files = new Map<string, SafetensorsFile>();
  try {
    for (const label of labels) {
      const path = await options.checkPath(join(folder, label));
      const { reason, maxHeaderBytes, headers } = options;
      files.set(label, await openSafetensors(path, { reason, label, maxHeaderBytes, headers }));
    }
    return files;
  } catch (error) {
    for (const file of files.values()) await file.close();
    throw error;
  }
}

/** Names of the files in `folder` that hold the tensors `<stem>.safetensors...`, and the index if they are shards. */
async function findFiles(
  folder: string,
  stem: string,
  options: OpenSetOptions,
): Promise<{ labels: string[]; index: Map<string, string> | undefined }> {
  const fail = (what: string) => new AppError(options.reason, what);
  const exists = async (name: string) => (await fileCalls().find(join(folder, name))) !== undefined;
  if (await exists(`${stem}.safetensors`)) return { labels: [`${stem}.safetensors`], index: undefined };
  const label = `${stem}.safetensors.index.json`;
  if (await exists(label)) {
    const path = await options.checkPath(join(folder, label));
    const { size } = await fileCalls().stat(path);
    if (size > MAX_INDEX_BYTES) throw fail(`${label}: ${size} bytes; at most ${MAX_INDEX_BYTES} are read`);
    const text = await readingFiles(path, () => fileCalls().readFile(path));
    const index = parseIndex(text, label, fail);
    const labels = [...new Set(index.values())].sort();
    if (labels.length > MAX_SHARDS) throw fail(`${label}: ${labels.length} shards; at most ${MAX_SHARDS} are read`);
    return { labels, index };
  }
  for (const pickle of [`${stem}.bin`, `${stem}.pt`, `${stem}.pth`]) {
    if (await exists(pickle)) {
      throw fail(
        `the weights are only there as ${pickle}, a pickle, which can run code and is never opened; ` +
          `${stem}.safetensors would be right`,
      );
    }
  }
  throw fail(`${stem}.safetensors: the file is missing`);
}

/**
 * Opens `<stem>.safetensors`, or the shards that `<stem>.safetensors.index.json` names, in `folder`. Shards must lie in
 * the same folder and hold exactly what the index says.
 * @throws AppError with the given reason, or what `checkPath` throws
 */
export async function openSafetensorsSet(
  folder: string,
  stem: string,
  options: OpenSetOptions,
): Promise<SafetensorsSet> {
  const { labels, index } = await findFiles(folder, stem, options);
  const files = await openAll(folder, labels, options);
  const close = async () => {
    for (const file of files.values()) await file.close();
  };
  const [only] = labels.length === 1 && index === undefined ? [...files.values()] : [];
  const tensors = (only && labelled.get(only.tensors)) ?? new Map<string, TensorInfo & { label: string }>();
  const wrong: string[] = [];
  for (const [label, file] of tensors.size > 0 ? [] : files) {
    for (const [name, info] of file.tensors) {
      if (index !== undefined && index.get(name) !== label) {
        wrong.push(`${label}: tensor ${JSON.stringify(name)} is not said to be there by the index`);
      } else tensors.set(name, { ...info, label });
    }
  }
  for (const [name, label] of index ?? []) {
    if (!tensors.has(name)) wrong.push(`${label}: tensor ${JSON.stringify(name)} of the index is missing`);
  }
  if (wrong.length > 0) {
    await close();
    throw new AppError(options.reason, wrong.slice(0, 50).join('; '));
  }
  if (only !== undefined) labelled.set(only.tensors, tensors);
  const find = (name: string) => {
    const tensor = tensors.get(name);
    if (tensor === undefined) throw new AppError(options.reason, `there is no tensor ${JSON.stringify(name)}`);
    return tensor;
  };
  // One function for each file: neighbours are known by it.
  const readers = new Map<string, ReadInto>();
  for (const [label, file] of files) readers.set(label, (target, position) => file.readInto(target, position));
  return {
    tensors,
    readRaw: async (name) => files.get(find(name).label)!.readRaw(name),
    pass: (names, windows) =>
      readTensors(
        names.map((name) => {
          const info = find(name);
          return { info, read: readers.get(info.label)! };
        }),
        windows,
      ),
    close,
  };
}
