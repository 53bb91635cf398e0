/**
 * Tensors of a file as they pass by: neighbours are read together, one window ahead, into buffers that are used again.
 * Nothing is held of what was read but what its reader keeps.
 */
import type { TensorInfo } from './safetensors-header.js';
import { DTYPE_BITS } from './tensor-dtype.js';
import { WINDOW_BYTES, type Windows } from './windows.js';

/** A stretch of a tensor. */
export interface TensorPiece {
  readonly name: string;
  /** Where in the tensor it begins, in bytes. */
  readonly at: number;
  /** Whole elements, aligned to their size. A tensor that fits a window is one piece. */
  readonly bytes: Uint8Array;
}

/** Pieces that were read together. */
export interface TensorWindow {
  readonly pieces: readonly TensorPiece[];
  /** To be called when nobody looks at the bytes any more; once. */
  release(): void;
}

/** Fills `target` from the file, beginning at byte `position`; throws when the file ends before. */
export type ReadInto = (target: Uint8Array, position: number) => Promise<void>;

/** A tensor and the file that it is in. */
export interface StoredTensor {
  readonly info: TensorInfo;
  readonly read: ReadInto;
}

/** What is read at once: `length` bytes at `position`, and the pieces in it. */
interface Stretch {
  readonly read: ReadInto;
  readonly position: number;
  length: number;
  readonly pieces: { readonly name: string; readonly at: number; readonly start: number; readonly length: number }[];
}

/** Divides tensors into what is read at once, in their order. */
function stretches(tensors: Iterable<StoredTensor>): Stretch[] {
  const all: Stretch[] = [];
  for (const { info, read } of tensors) {
    const { name, offset, bytes, dtype } = info;
    const last = all.at(-1);
    const joins =
      last !== undefined &&
      last.read === read &&
      last.position + last.length === offset &&
      last.length + bytes <= WINDOW_BYTES &&
      last.length % Math.max(1, DTYPE_BITS[dtype] / 8) === 0;
    if (joins) {
      last.pieces.push({ name, at: 0, start: last.length, length: bytes });
      last.length += bytes;
      continue;
    }
    for (let at = 0; at === 0 || at < bytes; at += WINDOW_BYTES) {
      const length = Math.min(WINDOW_BYTES, bytes - at);
      all.push({ read, position: offset + at, length, pieces: [{ name, at, start: 0, length }] });
    }
  }
  return all;
}

/**
 * Reads tensors in the order given. The next window is read while one is worked on.
 * @throws what the files' reading throws; then every window is back that the caller has released
 */
export async function* readTensors(tensors: Iterable<StoredTensor>, windows: Windows): AsyncGenerator<TensorWindow> {
  const fill = async ({ read, position, length, pieces }: Stretch): Promise<TensorWindow> => {
    const window = await windows.take();
    try {
      await read(window.subarray(0, length), position);
    } catch (error) {
      windows.give(window);
      throw error;
    }
    return {
      pieces: pieces.map(({ name, at, start, length: size }) => ({
        name,
        at,
        bytes: window.subarray(start, start + size),
      })),
      release: () => windows.give(window),
    };
  };
  const reads = stretches(tensors);
  let ahead: Promise<TensorWindow> | undefined;
  try {
    for (const [i, stretch] of reads.entries()) {
      const window = await (ahead ?? fill(stretch));
      const next = reads[i + 1];
      ahead = next && fill(next);
      // Whoever works on this window learns of the failure when the next one is asked for.
      ahead?.catch(() => {});
      yield window;
    }
  } finally {
    // A reader that gave up: files are closed only when nothing reads from them any more.
    await ahead?.then(
      ({ release }) => release(),
      () => {},
    );
  }
}

/** The bytes of a tensor that were made rather than read, on the same way as those of files. */
export async function* passBytes(name: string, made: Uint8Array, windows: Windows): AsyncGenerator<TensorWindow> {
  for (let at = 0; at === 0 || at < made.length; at += WINDOW_BYTES) {
    const window = await windows.take();
    const bytes = window.subarray(0, Math.min(WINDOW_BYTES, made.length - at));
    bytes.set(made.subarray(at, at + bytes.length));
    yield { pieces: [{ name, at, bytes }], release: () => windows.give(window) };
  }
}
