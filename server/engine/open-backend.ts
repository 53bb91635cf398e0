/** Opens the backend that runs a model's steps on the processor. */
import type { ModelFolder } from '../model/model-folder.js';
import type { StepBackend } from './backend.js';
import { type Dtype, SessionFactory } from './decoder-session.js';
import { EmbeddingTable } from './embedding-table.js';
import { StepRunner } from './step-runner.js';

/** How a model is run. */
export interface BackendOptions {
  readonly dtype: Dtype;
  /** Threads of onnxruntime. */
  readonly threads: number;
  /** False: only the base graph is made, and adapters are refused. */
  readonly lora: boolean;
  /** Folder for converted weights; absent = none are kept. */
  readonly cacheDir?: string | undefined;
}

/** Prepares the weights and opens the graphs that every adapter may need; others are opened when an adapter needs them. */
export async function openBackend(folder: ModelFolder, options: BackendOptions): Promise<StepBackend> {
  const factory = await SessionFactory.create(folder, options.dtype, options.threads, options.cacheDir);
  const sessions = [await factory.open('base')];
  if (options.lora) sessions.push(await factory.open('lora'));
  const table = await EmbeddingTable.read(folder);
  return new StepRunner(folder.spec, table, sessions, options.lora ? () => factory.open('full') : undefined);
}
