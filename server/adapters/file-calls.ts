/**
 * How a thread asks the file system. Most threads hand their calls to others and go on meanwhile. A thread that only reads
 * adapters has nothing to go on with: it makes its calls itself, which spares it two wake-ups and some promises each.
 */
import {
  closeSync,
  type Dirent,
  fstatSync,
  openSync,
  readdirSync,
  readSync,
  read as readWithin,
  realpathSync,
  type Stats,
  statSync,
} from 'node:fs';
import { open, readdir, realpath, stat } from 'node:fs/promises';
import { promisify } from 'node:util';
import { readRegular, readRegularSync } from '../regular-file.js';

/** An open file; a `FileHandle` is one. */
export interface OpenHandle {
  stat(): Promise<Pick<Stats, 'size' | 'isFile'>>;
  /** Reads up to `length` bytes at `position` of the file into `target`, from `offset` on. */
  read(target: Uint8Array, offset: number, length: number, position: number): Promise<{ readonly bytesRead: number }>;
  close(): Promise<void>;
}

/** Calls of `node:fs/promises`, with their results and errors. */
export interface FileCalls {
  realpath(path: string): Promise<string>;
  stat(path: string): Promise<Stats>;
  /** What lies at the path; undefined where nothing does, or it cannot be looked at. */
  find(path: string): Promise<Stats | undefined>;
  readdir(path: string): Promise<string[]>;
  /** {@link readdir} with the kinds of what lies there. */
  entries(path: string): Promise<Dirent[]>;
  /** Of what is no regular file: an error. */
  readFile(path: string): Promise<Uint8Array>;
  open(path: string, flags: number): Promise<OpenHandle>;
}

/** Calls that other threads make. */
export const HANDED_OVER: FileCalls = {
  realpath,
  stat,
  find: (path) => stat(path).catch(() => undefined),
  readdir,
  entries: (path) => readdir(path, { withFileTypes: true }),
  readFile: readRegular,
  open,
};

/** Calls that this thread makes. */
export const DIRECT: FileCalls = {
  realpath: async (path) => realpathSync.native(path),
  stat: async (path) => statSync(path),
  find: async (path) => {
    try {
      return statSync(path, { throwIfNoEntry: false });
    } catch {
      return undefined;
    }
  },
  readdir: async (path) => readdirSync(path),
  entries: async (path) => readdirSync(path, { withFileTypes: true }),
  readFile: async (path) => readRegularSync(path),
  open: async (path, flags) => new DirectHandle(openSync(path, flags)),
};

/** Of longer files the next part is read while one is worked on: others read them. */
const LONG_BYTES = 4 * 1024 * 1024;

const handOver = promisify(readWithin);

class DirectHandle implements OpenHandle {
  private readonly fd: number;
  private long = false;

  constructor(fd: number) {
    this.fd = fd;
  }

  async stat(): Promise<Stats> {
    const found = fstatSync(this.fd);
    this.long = found.size > LONG_BYTES;
    return found;
  }

  async read(target: Uint8Array, offset: number, length: number, position: number): Promise<{ bytesRead: number }> {
    if (this.long) return handOver(this.fd, target, offset, length, position);
    return { bytesRead: readSync(this.fd, target, offset, length, position) };
  }

  async close(): Promise<void> {
    closeSync(this.fd);
  }
}

let calls = HANDED_OVER;

/** The calls of this thread. */
export function fileCalls(): FileCalls {
  return calls;
}

/** To be called by a thread that does nothing but read: it makes its calls itself from now on. */
export function callDirectly(): void {
  calls = DIRECT;
}
