/** What a model is described by before it is loaded: where it was found, what is kept of it, what it is called. */
import { z } from 'zod';
import type { LoadModelOptions } from './load-model.js';
import type { ModelOverrides } from './management.js';
import type { ModelInfo } from './types.js';

/** A model that was found: how to load it, and what belongs to it. */
export interface OpenedModel {
  readonly options: LoadModelOptions;
  /** Folders of adapters to register once it is loaded. */
  readonly adapterFolders: readonly string[];
  /** Remarks for the log. */
  readonly warnings: readonly string[];
  /** Where it was fetched from, without secrets; absent = it was on this machine. */
  readonly origin?: string | undefined;
  /** Key of what was fetched, with which the same content is opened again. */
  readonly snapshot?: string | undefined;
  /** Gives back what was fetched. Idempotent; absent = nothing was. */
  readonly release?: (() => void) | undefined;
  /** Greatest rank of an adapter; absent = any. */
  readonly maxLoraRank?: number | undefined;
  /** The custom handler that answers for it; absent = none. */
  readonly handler?: OpenedHandler | undefined;
}

/**
 * Finds the model at a url, and fetches it; with the snapshot of an earlier time, the same content.
 * @throws MODEL_SOURCE_INVALID, MODEL_SOURCE_FORBIDDEN, MODEL_INVALID, SOURCE_UNAVAILABLE and others of sources
 */
export type OpenModel = (
  url: string,
  name: string,
  overrides: ModelOverrides,
  how: { readonly signal: AbortSignal; readonly snapshot?: string | undefined },
) => Promise<OpenedModel>;

/** A custom handler, as its model's folder names it. */
export interface OpenedHandler {
  /** Folder of the model. */
  readonly folder: string;
  /** The module, absolute. */
  readonly entryPoint: string;
  readonly properties: Readonly<Record<string, string>>;
  /** True: there are no weights to load. */
  readonly alone: boolean;
  /** Time for a call, in milliseconds; absent = the server's. */
  readonly callMs?: number | undefined;
}

/** Starts and ends custom handlers of models. */
export interface ModelHandlers {
  /** Throws MODEL_INVALID. @returns what is told of the model where the handler is all there is */
  add(name: string, opened: OpenedModel & { readonly handler: OpenedHandler }): Promise<ModelInfo>;
  /** True where handlers of the model or of its adapters have to be drained before its engine ends. */
  runsFor(name: string): boolean;
  /** Waits for what the handler answers, for a while; then its thread ends. New requests do not find the model. */
  drain(name: string): Promise<void>;
  remove(name: string): Promise<void>;
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
  /** Of what was fetched: it comes back as it was while the cache has it. */
  snapshot: z.string().optional(),
});

/** Body of a record of kind `model`. */
export type SavedModel = z.infer<typeof savedModel>;

/** The name of a model that is given none: the last part of its url, without revision and what an archive or weight file ends with. */
export function nameOf(url: string): string {
  const last = url
    .replace(/[?#].*$/, '')
    .split(/[\\/]/)
    .filter(Boolean)
    .at(-1);
  const bare = /^hf:|^[^/]+\/[^/]+$/i.test(url) ? last?.replace(/@.*$/, '') : last;
  return (bare ?? '').replace(/\.(tar\.gz|tgz|tar|zip|gguf)$/i, '');
}
