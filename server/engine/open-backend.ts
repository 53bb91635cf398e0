/** Opens the backend that runs a model's steps on the processor. */
import type { ModelFolder } from '../model/model-folder.js';
import type { StepBackend } from './backend.js';
import type { KeptFile, OnUnkept } from './converted-weights.js';
import { type DecoderSession, type Dtype, SessionFactory } from './decoder-session.js';
import { EmbeddingTable } from './embedding-table.js';
import type { Beside } from './paired-session.js';
import { StepMarks } from './step-marks.js';
import { StepRunner } from './step-runner.js';

/** How a model is run. */
export interface BackendOptions {
  readonly dtype: Dtype;
  /** Arithmetic threads of a step that has the machine to itself. */
  readonly threads: number;
  /** Arithmetic threads of a step beside other engine threads at work, and whether there are any now; absent = never. */
  readonly shared?: { readonly threads: number; readonly beside: Beside } | undefined;
  /** False: only the base graph is made, and adapters are refused. */
  readonly lora: boolean;
  /** Folder for converted weights; absent = none are kept. */
  readonly cacheDir?: string | undefined;
  /** The packed form of the weights as this process knows it; absent = it is looked for. */
  readonly knownWeights?: KeptFile | undefined;
  /** Told where the folder for converted weights does not take them. */
  readonly onUnkept?: OnUnkept | undefined;
  /** Where runs and openings are marked; absent = nowhere. */
  readonly marks?: StepMarks | undefined;
}

/** Prepares the weights and opens the base's graph; the others are opened when an adapter needs them, or ahead of that. */
export async function openBackend(folder: ModelFolder, options: BackendOptions): Promise<StepBackend> {
  const { dtype, threads, lora, cacheDir, shared, knownWeights, onUnkept, marks = new StepMarks() } = options;
  const marked = async (open: () => Promise<DecoderSession>): Promise<DecoderSession> => {
    const { graph, run } = await marks.open(open);
    return { graph, run: (...args) => marks.run(() => run(...args)) };
  };
  const factory = await SessionFactory.create(folder, dtype, cacheDir, knownWeights, onUnkept);
  const base = await marked(() => factory.open('base', threads));
  const table = await EmbeddingTable.read(folder);
  return new StepRunner(folder.spec, table, [base], {
    lora,
    kept: factory.kept,
    open: (variant) => marked(() => factory.open(variant, threads)),
    ...(lora && {
      openPieces: async () => {
        const sharing = await factory.sharing(cacheDir);
        return sharing.opensCheaply ? marked(() => sharing.open('pieces', threads)) : undefined;
      },
    }),
    ...(shared && {
      beside: shared.beside,
      openNarrow: (variant) => marked(async () => (await factory.sharing(cacheDir)).open(variant, shared.threads)),
    }),
  });
}
