/** Messages between the main thread and the threads that read adapters ({@link ./reader-worker.ts}). */
import type { PlainError } from './plain-error.js';
import type { ReadAdapter, ReadRequest } from './prepare-adapter.js';
import type { AdapterBase } from './types.js';
import type { AdapterReport } from './validate-adapter.js';

/** The base without its file access, which stays on the main thread. */
export type BaseTable = Omit<AdapterBase, 'readWeight'>;

/** Main thread to reader. One job at a time. */
export type ToReader =
  | {
      readonly type: 'read' | 'validate';
      readonly request: ReadRequest;
      /** Absent = that of the job before: its table of modules is longer than all else that a job says. */
      readonly base?: BaseTable | undefined;
    }
  | { readonly type: 'weight'; readonly values: Float32Array }
  | { readonly type: 'weight-failed'; readonly error: PlainError };

/** Reader to main thread. */
export type FromReader =
  | { readonly type: 'weight'; readonly tensor: string }
  | { readonly type: 'done'; readonly result: ReadAdapter | AdapterReport }
  | { readonly type: 'failed'; readonly error: PlainError };
