/**
 * Converts a model's weights to columns, in two threads where the machine has the cores: it is most of a first start.
 * The second thread opens the folder for itself; both take groups of linears in turn and write to shared memory.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { coresAtHand } from '../cgroup.js';
import { heldFloats, type StoredFloats } from '../model/checkpoint.js';
import {
  type ColumnStore,
  columnLayout,
  convertColumns,
  type SharedConversion,
  type WeightBytes,
} from '../model/column-store.js';
import { type ModelFolder, openModelFolder } from '../model/model-folder.js';
import { linearGroups } from '../model/spec.js';
import { firstMessage, startThread, tryThread } from '../threads.js';

/** Below this many weights a second thread is not up before the work is done. */
const WORTH_IT = 60_000_000;

/** What both threads write to. */
interface SharedMemory {
  readonly dir: string;
  readonly bytesAre: WeightBytes;
  readonly bytes: SharedArrayBuffer;
  /** int32 [1]: groups taken. */
  readonly taken: SharedArrayBuffer;
}

/**
 * Converts all linears of the folder. Throws what reading the weights throws.
 * @param divideFrom number of weights from which two threads work
 */
export async function convertWeights(
  folder: ModelFolder,
  bytesAre: WeightBytes,
  divideFrom = WORTH_IT,
): Promise<ColumnStore & { readonly bytes: Uint8Array }> {
  const alone = () => convertInto(folder, bytesAre);
  // A GGUF file is dequantised as it is read, and merged weights are in this thread's memory alone.
  const divisible = folder.tokenizerFiles === undefined && folder.checkpoint.changed === undefined;
  if (!divisible || folder.parameters < divideFrom || coresAtHand() < 2) return alone();
  const { bytes } = columnLayout(linearGroups(folder.spec));
  const memory = {
    dir: folder.dir,
    bytesAre,
    bytes: new SharedArrayBuffer(bytes),
    taken: new SharedArrayBuffer(4),
  };
  const helper = firstMessage(tryThread(() => startThread(import.meta.url, { convert: memory })));
  const store = await convertInto(folder, bytesAre, memory);
  // What a thread that failed had taken is missing.
  return (await helper) === undefined ? alone() : store;
}

function convertInto(
  folder: ModelFolder,
  bytesAre: WeightBytes,
  memory?: SharedMemory,
): Promise<ColumnStore & { readonly bytes: Uint8Array }> {
  return convertColumns(
    linearGroups(folder.spec),
    ({ weight }) => readWeight(folder, weight),
    bytesAre,
    memory && sharedWork(memory),
  );
}

async function readWeight({ checkpoint }: ModelFolder, weight: string): Promise<StoredFloats> {
  return (await checkpoint.readStored?.(weight)) ?? heldFloats(await checkpoint.readFloat32(weight));
}

function sharedWork({ bytes, taken }: SharedMemory): SharedConversion {
  const counter = new Int32Array(taken);
  return { bytes: new Uint8Array(bytes), next: () => Atomics.add(counter, 0, 1) };
}

async function help(memory: SharedMemory): Promise<void> {
  const folder = await openModelFolder(memory.dir);
  try {
    await convertInto(folder, memory.bytesAre, memory);
    parentPort!.postMessage('done');
  } finally {
    await folder.close();
  }
}

const asked = (workerData as { convert?: SharedMemory } | null)?.convert;
if (parentPort !== null && asked !== undefined) await help(asked);
