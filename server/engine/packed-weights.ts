/**
 * Converted weights with their packed form behind them, in one kept file. A session packs matrices as the processor's
 * kernels want them; where the file has that form already, the session maps it instead of keeping a copy of its own, and
 * so do all sessions of all engine threads. onnxruntime still packs once while it opens, and takes the file's bytes only
 * if its own hash to the same key: on another processor, or with another version, it keeps what it packed.
 *
 * Layout: the columns (column-store.ts), the packed matrices at multiples of 64, the index as JSON, its length (8 bytes).
 */
import { mkdtemp, open, readFile, realpath, rm, statfs } from 'node:fs/promises';
import { arch, cpus } from 'node:os';
import { join } from 'node:path';
import { columnForm, columnLayout, columnStore, type WeightBytes } from '../model/column-store.js';
import { productsAlone } from '../model/graph-integer.js';
import type { ModelFolder } from '../model/model-folder.js';
import { type PackedEntry, packedEntry, readPackedEntries } from '../model/packed-entries.js';
import { linearGroups } from '../model/spec.js';
import {
  convertedName,
  findConverted,
  type KeptFile,
  keepConverted,
  type OnUnkept,
  readPieces,
  UNFINISHED,
  type Unkept,
} from './converted-weights.js';
import { exactWeightBytes } from './integer-check.js';
import * as ort from './ort.js';

/** Changes with the layout. */
const packedForm = (bytesAre: WeightBytes): string => `packed2-${columnForm(bytesAre)}`;
const ALIGNMENT = 64;
const LENGTH_BYTES = 8;

/** A kept file, and by the name of a matrix the entry of its packed form. */
export interface PackedFile extends KeptFile {
  readonly bytesAre: WeightBytes;
  readonly packed: ReadonlyMap<string, string>;
}

/**
 * The kept file with packed matrices for this processor and version of onnxruntime, if there is one.
 * @param known see {@link findConverted}
 */
export async function findPacked(
  folder: ModelFolder,
  cacheDir: string,
  known?: KeptFile,
): Promise<PackedFile | undefined> {
  const bytesAre = await exactWeightBytes();
  if (bytesAre === undefined) return undefined;
  const kept = await findConverted(cacheDir, await packedName(folder, bytesAre), known);
  return kept && { ...kept, bytesAre, packed: await readIndex(kept) };
}

/**
 * Makes that file from the converted columns, if there are any and it is not there. A cache that cannot be written to is
 * passed over.
 * @param known the columns as far as this process knows them; see {@link findConverted}
 * @param onUnkept told where there are columns and their packed form cannot be kept
 * @returns the file if it is there now
 */
export async function makePacked(
  folder: ModelFolder,
  cacheDir: string,
  known?: KeptFile,
  onUnkept?: OnUnkept,
): Promise<KeptFile | undefined> {
  const bytesAre = await exactWeightBytes();
  if (bytesAre === undefined) return undefined;
  const name = await packedName(folder, bytesAre);
  const there = await findConverted(cacheDir, name);
  if (there !== undefined) return there;
  const columns = await findConverted(cacheDir, await convertedName(folder, columnForm(bytesAre)), known);
  if (columns === undefined) return undefined;
  let dir: string | undefined;
  try {
    dir = await mkdtemp(join(await realpath(cacheDir), UNFINISHED.folder));
    const entries = await pack(folder, bytesAre, columns, dir);
    const tell = (unkept: Unkept) => onUnkept?.({ ...unkept, form: 'packed' });
    return await keepConverted(cacheDir, name, pieces(columns, entries, dir), tell);
  } catch (error) {
    onUnkept?.({ form: 'packed', ...(await whyUnpacked(error as NodeJS.ErrnoException, dir)) });
    return undefined;
  } finally {
    if (dir !== undefined) await rm(dir, { recursive: true, force: true }).catch(() => {});
  }
}

/** Less than what any file takes. */
const NO_BYTES = 65_536;

/** What the file system says, or what can be told of it where onnxruntime was to write. */
async function whyUnpacked(
  { code, message }: NodeJS.ErrnoException,
  dir: string | undefined,
): Promise<Pick<Unkept, 'why' | 'cause'>> {
  if (code !== undefined || dir === undefined) return { why: message };
  const { bavail, bsize } = await statfs(dir).catch(() => ({ bavail: Infinity, bsize: 1 }));
  const why = bavail * bsize < NO_BYTES ? 'ENOSPC: no space left on device' : 'onnxruntime could not write it';
  return { why, cause: message };
}

function packedName(folder: ModelFolder, bytesAre: WeightBytes): Promise<string> {
  const environment = ['', arch(), cpus()[0]?.model, ort.env.versions.common, ort.env.versions.node].join(':');
  return convertedName(folder, packedForm(bytesAre), environment);
}

/** Lets onnxruntime pack every matrix and save the result in `dir`. */
async function pack(
  { spec }: ModelFolder,
  bytesAre: WeightBytes,
  columns: KeptFile,
  dir: string,
): Promise<PackedEntry[]> {
  const groups = linearGroups(spec);
  const store = columnStore(columnLayout(groups).places, columns.name, bytesAre);
  const session = await ort.InferenceSession.create(productsAlone(store, groups), {
    executionProviders: ['cpu'],
    graphOptimizationLevel: 'disabled',
    intraOpNumThreads: 1,
    logSeverityLevel: 3,
    optimizedModelFilePath: join(dir, SAVED.model),
    extra: {
      session: {
        model_external_initializers_file_folder_path: columns.folder,
        optimized_model_external_initializers_file_name: SAVED.data,
        optimized_model_external_initializers_min_size_in_bytes: '1024',
        save_external_prepacked_constant_initializers: '1',
        set_denormal_as_zero: '1',
      },
    },
  });
  await session.release();
  return readPackedEntries(await readFile(join(dir, SAVED.model)));
}

const SAVED = { model: 'products.onnx', data: 'products.bin' };

/** The file's contents. */
async function* pieces(
  columns: KeptFile,
  entries: readonly PackedEntry[],
  dir: string,
): AsyncGenerator<Uint8Array, void, undefined> {
  yield* stretch(join(columns.folder, columns.name), 0, columns.bytes);
  let at = columns.bytes;
  const index: [string, string][] = [];
  for (const entry of entries) {
    const start = Math.ceil(at / ALIGNMENT) * ALIGNMENT;
    yield new Uint8Array(start - at);
    yield* stretch(join(dir, SAVED.data), entry.offset, entry.length);
    index.push([entry.name, packedEntry(entry, start)]);
    at = start + entry.length;
  }
  const json = new TextEncoder().encode(JSON.stringify(index));
  yield json;
  const length = new Uint8Array(LENGTH_BYTES);
  new DataView(length.buffer).setBigUint64(0, BigInt(json.length), true);
  yield length;
}

async function* stretch(path: string, from: number, length: number): AsyncGenerator<Uint8Array, void, undefined> {
  const handle = await open(path);
  try {
    yield* readPieces(handle, from, length);
  } finally {
    await handle.close();
  }
}

async function readIndex({ folder, name, bytes }: KeptFile): Promise<Map<string, string>> {
  const handle = await open(join(folder, name));
  try {
    const length = new Uint8Array(LENGTH_BYTES);
    await handle.read(length, 0, LENGTH_BYTES, bytes - LENGTH_BYTES);
    const json = new Uint8Array(Number(new DataView(length.buffer).getBigUint64(0, true)));
    await handle.read(json, 0, json.length, bytes - LENGTH_BYTES - json.length);
    return new Map(JSON.parse(new TextDecoder().decode(json)) as [string, string][]);
  } finally {
    await handle.close();
  }
}
