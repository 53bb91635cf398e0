/** What a model is described by before it is loaded: where it was found, what is kept of it, what it is called. */
import { z } from 'zod';
import type { LoadModelOptions } from './load-model.js';

/** A model that was found: how to load it, and what belongs to it. */
export interface OpenedModel {
  readonly options: LoadModelOptions;
  /** Folders of adapters to register once it is loaded. */
  readonly adapterFolders: readonly string[];
  /** Remarks for the log. */
  readonly warnings: readonly string[];
}

/** What is kept of a model. */
export const savedModel = z.object({
  url: z.string(),
  overrides: z.object({
    dtype: z.string().optional(),
    loraEnabled: z.boolean().optional(),
    maxBatch: z.number().optional(),
    maxQueue: z.number().optional(),
  }),
});

/** Body of a record of kind `model`. */
export type SavedModel = z.infer<typeof savedModel>;

/** The name of a model that is given none: the last part of its url, without what an archive or weight file ends with. */
export function nameOf(url: string): string {
  const last = url
    .replace(/[?#].*$/, '')
    .split(/[\\/]/)
    .filter(Boolean)
    .at(-1);
  return (last ?? '').replace(/\.(tar\.gz|tgz|zip|gguf)$/i, '');
}
