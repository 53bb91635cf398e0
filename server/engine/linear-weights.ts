/** The weights of a model's linears in the form that the chosen arithmetic multiplies with. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type ColumnStore, columnForm, columnLayout, columnStore, type WeightBytes } from '../model/column-store.js';
import { integerKernel } from '../model/graph-integer.js';
import { blockKernel, fp32Kernel, type LinearKernel, memoryFile } from '../model/graph-linears.js';
import type { ModelFolder } from '../model/model-folder.js';
import { quantise } from '../model/quantise.js';
import { allLinears, linearGroups } from '../model/spec.js';
import { convertWeights } from './convert-weights.js';
import { convertedName, findConverted, type KeptFile, keepConverted, type OnUnkept } from './converted-weights.js';
import { exactWeightBytes } from './integer-check.js';
import { findPacked } from './packed-weights.js';

/** Arithmetic of the base model's linears: `fp32` is exact, `int8` rounds weights to 8 bits. */
export type Dtype = 'fp32' | 'int8';

/** Bytes that a session takes from memory, by the name that the graph knows them under. */
export interface ExternalFile {
  readonly path: string;
  readonly data: Uint8Array;
}

/** Prepared weights and the nodes that use them. */
export interface LinearWeights {
  readonly kernel: LinearKernel;
  /** The kept file that the graph names; absent = it names those of the checkpoint. */
  readonly kept?: KeptFile | undefined;
  /** As soon as anything comes from memory, onnxruntime wants every file named here. */
  externalFiles(): Promise<readonly ExternalFile[]>;
  /** True: sessions share one packed form of the weights, so that a further one needs little memory. */
  readonly shared?: boolean | undefined;
}

/**
 * Prepares all linears of the folder.
 * @param cacheDir folder for converted weights; undefined = none are kept
 * @param known their packed form as this process knows it; see {@link findConverted}
 * @param onUnkept told where the folder does not take them
 */
export async function prepareLinears(
  folder: ModelFolder,
  dtype: Dtype,
  cacheDir?: string,
  known?: KeptFile,
  onUnkept?: OnUnkept,
): Promise<LinearWeights> {
  if (dtype === 'fp32') return exactLinears(folder);
  // Weights that come in blocks keep them; a processor that saturates must not multiply whole columns.
  const bytesAre = (await storedInBlocks(folder)) ? undefined : await exactWeightBytes();
  return bytesAre === undefined ? blockLinears(folder) : columnLinears(folder, bytesAre, cacheDir, known, onUnkept);
}

/** Columns, read from the cache's file where there is one, which then needs no memory of ours. */
async function columnLinears(
  folder: ModelFolder,
  bytesAre: WeightBytes,
  cacheDir: string | undefined,
  knownPacked: KeptFile | undefined,
  onUnkept: OnUnkept | undefined,
): Promise<LinearWeights> {
  // Merged weights are those of one start.
  const place = folder.checkpoint.changed === undefined ? cacheDir : undefined;
  if (place === undefined) return columnsInMemory(await convertWeights(folder, bytesAre));
  const packed = await sharedLinears(folder, place, knownPacked);
  if (packed !== undefined) return packed;
  const name = await convertedName(folder, columnForm(bytesAre));
  const known = await findConverted(place, name);
  if (known !== undefined) return keptColumns(folder, bytesAre, known);
  const store = await convertWeights(folder, bytesAre);
  const kept = await keepConverted(place, name, [store.bytes], onUnkept);
  return kept === undefined ? columnsInMemory(store) : keptColumns(folder, bytesAre, kept);
}

function columnsInMemory(store: ColumnStore & { readonly bytes: Uint8Array }): LinearWeights {
  // onnxruntime takes no shared memory.
  const files = [{ path: store.location, data: unshared(store.bytes) }];
  return { kernel: integerKernel(store), externalFiles: async () => files };
}

/** Weights whose packed form is in the cache; undefined = it is not (yet). */
export async function sharedLinears(
  folder: ModelFolder,
  cacheDir: string,
  known?: KeptFile,
): Promise<LinearWeights | undefined> {
  const packed = await findPacked(folder, cacheDir, known);
  return packed && { ...keptColumns(folder, packed.bytesAre, packed, packed.packed), shared: true };
}

function keptColumns(
  { spec }: ModelFolder,
  bytesAre: WeightBytes,
  kept: KeptFile,
  packed?: ReadonlyMap<string, string>,
): LinearWeights {
  const { places } = columnLayout(linearGroups(spec));
  return {
    kernel: integerKernel(columnStore(places, kept.name, bytesAre, packed)),
    kept: { folder: kept.folder, name: kept.name, bytes: kept.bytes, state: kept.state },
    externalFiles: async () => [],
  };
}

function unshared(bytes: Uint8Array): Uint8Array {
  return bytes.buffer instanceof ArrayBuffer ? bytes : bytes.slice();
}

async function storedInBlocks({ spec, checkpoint }: ModelFolder): Promise<boolean> {
  if (checkpoint.readBlocks === undefined) return false;
  for (const { weight } of allLinears(spec)) if ((await checkpoint.readBlocks(weight)) !== undefined) return true;
  return false;
}

async function blockLinears({ spec, checkpoint }: ModelFolder): Promise<LinearWeights> {
  const store = await quantise(
    allLinears(spec).map((linear) => ({
      tensor: linear.weight,
      outFeatures: linear.outFeatures,
      inFeatures: linear.inFeatures,
      transposed: linear.conv1d ?? false,
      read: () => checkpoint.readFloat32(linear.weight),
      readBlocks: async () => checkpoint.readBlocks?.(linear.weight),
    })),
  );
  const files = [{ path: store.location, data: store.bytes }];
  return { kernel: blockKernel(store), externalFiles: async () => files };
}

async function exactLinears({ spec, checkpoint }: ModelFolder): Promise<LinearWeights> {
  // Weights that no file holds in a form that can be mapped: merged or dequantised ones.
  const held = new Map<string, Float32Array>();
  for (const { weight } of allLinears(spec)) {
    if (held.has(weight) || checkpoint.mapped(weight) !== undefined) continue;
    held.set(weight, checkpoint.changed?.get(weight) ?? (await checkpoint.readFloat32(weight)));
  }
  return {
    kernel: fp32Kernel(checkpoint),
    externalFiles: async () => {
      if (held.size === 0) return [];
      const inMemory = [...held].map(([name, { buffer, byteOffset, byteLength }]) => ({
        path: memoryFile(name),
        data: new Uint8Array(buffer, byteOffset, byteLength),
      }));
      const locations = new Set(allLinears(spec).flatMap(({ weight }) => checkpoint.mapped(weight)?.location ?? []));
      const whole = await Promise.all(
        [...locations].map(async (path) => ({ path, data: await readFile(join(checkpoint.folder, path)) })),
      );
      return [...inMemory, ...whole];
    },
  };
}
