/** The whole way of an adapter from its folder to what the engine takes, and what is told about it. */
import { AppError } from '../errors.js';
import type { AdapterText } from './adapter-text.js';
import type { BaseCheck } from './base-identity.js';
import type { ReadingTools } from './bind.js';
import { flattenReplaced } from './flatten.js';
import { readAdapterFolder } from './read-adapter.js';
import type { AdapterBase, BoundAdapter } from './types.js';

/** What to read, from where, for which engine. */
export interface ReadRequest {
  readonly folder: string;
  /** Folders that everything must lie below after links are followed. */
  readonly roots: readonly string[];
  /** Features that the engine applies; an adapter that needs another is refused. */
  readonly supportedFeatures: ReadonlySet<string>;
  /** Most bytes that the weights may take. */
  readonly maxBytes?: number | undefined;
  /** Greatest rank that the model takes; absent = any. */
  readonly maxRank?: number | undefined;
  /** What to do where the config names another base; default warn. */
  readonly baseCheck?: BaseCheck | undefined;
}

/** A read adapter and what is told about it. */
export interface ReadAdapter {
  readonly adapter: BoundAdapter;
  readonly summary: AdapterSummary;
}

/** Facts about an adapter, as the files have it. */
export interface AdapterSummary {
  readonly digest: string;
  readonly bytes: number;
  /** Distinct ranks, ascending. */
  readonly ranks: readonly number[];
  /** Distinct scalings, ascending. */
  readonly scalings: readonly number[];
  /** Distinct last name parts of the adapted modules, sorted. */
  readonly targetModules: readonly string[];
  readonly features: readonly string[];
  readonly warnings: readonly string[];
  readonly invocationTokens?: readonly number[] | undefined;
  /** How many ids it knows, where that is not the base's number. */
  readonly vocabularySize?: number | undefined;
  /** What the tokenizer files beside it say. */
  readonly text?: AdapterText | undefined;
}

function ascending(values: Iterable<number>): number[] {
  return [...new Set(values)].sort((x, y) => x - y);
}

function summarise(read: BoundAdapter, bytes: number, base: AdapterBase): AdapterSummary {
  const { digest, features, warnings, invocationTokens, embedding, vocabulary } = read;
  const lowRank = read.linears.filter(({ rank }) => rank > 0);
  const modules = [
    ...read.linears.map(({ module }) => module),
    ...read.norms.keys(),
    ...(read.normBiases?.keys() ?? []),
  ];
  if (embedding !== undefined) modules.push(base.embeddingModule);
  if (read.headRows !== undefined) modules.push(base.headModule);
  const ranks = lowRank.map(({ rank }) => rank);
  const scalings = lowRank.map(({ scaling }) => scaling);
  if (embedding?.lora !== undefined) {
    ranks.push(embedding.lora.rank);
    scalings.push(embedding.lora.scaling);
  }
  const names = modules.map((path) => path.slice(path.lastIndexOf('.') + 1));
  return {
    digest,
    bytes,
    ranks: ascending(ranks),
    scalings: ascending(scalings),
    targetModules: [...new Set(names)].sort(),
    features,
    warnings,
    invocationTokens,
    vocabularySize: vocabulary?.size,
    text: read.text,
  };
}

/**
 * Reads, checks and binds an adapter, and brings it into the engine's form.
 * @throws AppError as {@link readAdapterFolder}; ADAPTER_UNSUPPORTED naming the features that the engine lacks,
 * or the rank that the model does not take
 */
export async function prepareAdapter(
  request: ReadRequest,
  base: AdapterBase,
  tools?: ReadingTools,
): Promise<ReadAdapter> {
  const { folder, roots, maxBytes, maxRank, supportedFeatures, baseCheck } = request;
  const read = await readAdapterFolder(folder, base, { roots, maxBytes, baseCheck, tools });
  const missing = read.features.filter((feature) => !supportedFeatures.has(feature));
  if (missing.length > 0) {
    throw new AppError(
      'ADAPTER_UNSUPPORTED',
      `the adapter uses ${missing.join(', ')}, which the engine does not apply; it applies ` +
        `${[...supportedFeatures].sort().join(', ')}`,
      { metadata: { features: missing.join(',') } },
    );
  }
  // The engine has no use for texts.
  const { text: _, ...adapter } = await flattenReplaced(read, base);
  const summary = summarise(read, adapter.bytes, base);
  const rank = summary.ranks.at(-1) ?? 0;
  if (maxRank !== undefined && rank > maxRank) {
    throw new AppError('ADAPTER_UNSUPPORTED', `its rank is ${rank}, and option.max_lora_rank is ${maxRank}`, {
      metadata: { rank: String(rank), maxLoraRank: String(maxRank) },
    });
  }
  return { adapter, summary };
}
