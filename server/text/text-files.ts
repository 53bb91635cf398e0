/** The files that a model's tokenizer and chat templates are made from, wherever they are read. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '../errors.js';
import { readRegular } from '../regular-file.js';

/** Reads text files by their paths below the model's folder. */
export interface TextFiles {
  /** Text of a file, undefined when there is none; throws AppError MODEL_INVALID. */
  read(path: string): Promise<string | undefined>;
  /** Names in a folder; none where there is no such folder. */
  list(folder: string): Promise<readonly string[]>;
}

/** Bytes of files by path. Threads share them, so that one more reader costs no copy. */
export type KeptFiles = ReadonlyMap<string, SharedArrayBuffer>;

/** The files of a folder; each is read once, and kept. */
export class FolderFiles implements TextFiles {
  readonly #dir: string;
  readonly #reading = new Map<string, Promise<string | undefined>>();
  readonly #kept = new Map<string, SharedArrayBuffer>();

  constructor(dir: string) {
    this.#dir = dir;
  }

  /** What has been read. */
  get kept(): KeptFiles {
    return this.#kept;
  }

  read(path: string): Promise<string | undefined> {
    const reading = this.#reading.get(path) ?? this.#read(path);
    this.#reading.set(path, reading);
    return reading;
  }

  list(folder: string): Promise<readonly string[]> {
    return readdir(join(this.#dir, folder)).catch(() => []);
  }

  async #read(path: string): Promise<string | undefined> {
    try {
      const bytes = await readRegular(join(this.#dir, path));
      this.#kept.set(path, shared(bytes));
      return bytes.toString();
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw new AppError('MODEL_INVALID', `${path} cannot be read: ${(cause as Error).message}`, {
        metadata: { file: path },
        cause,
      });
    }
  }
}

/** Files that were read before, whatever has become of the folder. */
export function keptFiles(kept: KeptFiles): TextFiles {
  return {
    read: async (path) => {
      const bytes = kept.get(path);
      return bytes && Buffer.from(bytes).toString();
    },
    list: async (folder) =>
      [...kept.keys()].filter((path) => path.startsWith(`${folder}/`)).map((path) => path.slice(folder.length + 1)),
  };
}

/** Files that are on no disk: each is the JSON of a value. */
export function jsonFiles(values: Readonly<Record<string, unknown>>): KeptFiles {
  return new Map(Object.entries(values).map(([path, value]) => [path, shared(Buffer.from(JSON.stringify(value)))]));
}

function shared(bytes: Uint8Array): SharedArrayBuffer {
  const kept = new SharedArrayBuffer(bytes.length);
  new Uint8Array(kept).set(bytes);
  return kept;
}
