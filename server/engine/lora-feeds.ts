/**
 * The adapter inputs of a step. When all rows share one selection (a prefill, or a batch of one adapter) its arrays are
 * fed as they are, one group for all rows; otherwise the rows' weights lie side by side, for even groups of neighbouring
 * slots (row-groups.ts) or in pieces (piece-plan.ts), whichever costs less.
 */

import type { DecoderGraph } from '../model/decoder-graph.js';
import { pieceInputs } from '../model/graph-pieces.js';
import { type GraphVariant, siteInputs } from '../model/graph-sites.js';
import * as ort from './ort.js';
import { groupsCost, type PiecePlan, pieceIndices, piecesCost, planPieces, settled } from './piece-plan.js';
import { BASE_ROW, type RowAdapter } from './row-adapter.js';
import { rowGroups } from './row-groups.js';
import { SideBySide } from './side-by-side.js';
import { int64 } from './step-inputs.js';
import { vectorFeeds } from './vector-feeds.js';

/** Pieces take the place of groups where they cost at most this share: new buffers and a wrong estimate cost something. */
export const WORTH_PIECES = 0.85;

/** The adapter inputs of a step for one graph, and the number of groups into which they divide its rows. */
export interface LoraInputs {
  readonly variant: GraphVariant;
  readonly groups: number;
  readonly feeds: Record<string, ort.Tensor>;
}

/** Inputs of one selection for all rows of a step, for one graph. */
export class SharedFeeds {
  readonly #graph: DecoderGraph;
  #last: { key: string; inputs: LoraInputs } | undefined;

  constructor(graph: DecoderGraph) {
    this.#graph = graph;
  }

  of(adapter: RowAdapter): LoraInputs {
    if (this.#last?.key === adapter.key) return this.#last.inputs;
    const feeds = { ...groupFeeds(this.#graph, 1), ...ownVectors(this.#graph, [adapter]) };
    for (const { module, inFeatures, outFeatures } of this.#graph.linears) {
      const pair = adapter.linears.get(module);
      const rank = pair?.rank ?? 0;
      feeds[siteInputs.a(module)] = new ort.Tensor('float32', pair?.a ?? EMPTY, [1, rank, inFeatures]);
      feeds[siteInputs.b(module)] = new ort.Tensor('float32', pair?.b ?? EMPTY, [1, rank, outFeatures]);
    }
    const inputs = { variant: this.#graph.variant, groups: 1, feeds };
    this.#last = { key: adapter.key, inputs };
    return inputs;
  }

  /** Forgets inputs that may hold an unloaded adapter's arrays. */
  clear(): void {
    this.#last = undefined;
  }
}

/** Inputs of the slots of one store, whichever graph reads them: all use the same buffers. */
export class SlotFeeds {
  readonly #worth: number;
  #weights: SideBySide | undefined;
  #last: { key: string; inputs: LoraInputs } | undefined;
  /** Ranks of the pieces that lie in the buffers; undefined = groups do. */
  #unit: number | undefined;

  /** @param worth share of the cost of groups at which pieces are taken; Infinity = always */
  constructor(worth = WORTH_PIECES) {
    this.#worth = worth;
  }

  /**
   * One selection per slot.
   * @param slots undefined = the slot is free
   * @param graph that of even groups, or the one with gains, biases and norms
   * @param pieces the graph of pieces, where it is open and may take the other's place
   */
  of(slots: readonly (RowAdapter | undefined)[], graph: DecoderGraph, pieces?: DecoderGraph): LoraInputs {
    const graphs = pieces === undefined ? graph.variant : `${graph.variant}/${pieces.variant}`;
    const key = `${graphs}:${slots.map((slot) => slot?.key ?? 'free').join('|')}`;
    if (this.#last?.key !== key) this.#last = { key, inputs: this.#make(slots, graph, pieces) };
    return this.#last.inputs;
  }

  #make(slots: readonly (RowAdapter | undefined)[], graph: DecoderGraph, pieces?: DecoderGraph): LoraInputs {
    this.#weights ??= new SideBySide(graph.linears);
    // Gains, biases and norm weights are given by slot, and so are the groups of a graph that has them.
    const groups = graph.variant === 'full' ? slots : rowGroups(slots);
    const plan = pieces && this.#cheaperPieces(slots, groups, pieces);
    this.#unit = plan?.unit;
    return plan === undefined
      ? inGroups(groups, graph, this.#weights)
      : inPieces(plan, slots.length, pieces!, this.#weights);
  }

  /** Pieces that are worth it; undefined = groups are as good, or about. */
  #cheaperPieces(
    slots: readonly (RowAdapter | undefined)[],
    groups: readonly (RowAdapter | undefined)[],
    { linears }: DecoderGraph,
  ): PiecePlan | undefined {
    const plan = planPieces(slots, this.#unit);
    if (plan === undefined) return undefined;
    const worth = this.#unit === undefined ? this.#worth : Math.max(1, this.#worth);
    const most = worth * groupsCost(groups, slots.length, linears);
    return piecesCost(plan, slots.length, linears) <= most ? plan : undefined;
  }
}

const EMPTY = new Float32Array(0);

function inGroups(groups: readonly (RowAdapter | undefined)[], graph: DecoderGraph, weights: SideBySide): LoraInputs {
  const adapters = groups.map((adapter) => adapter ?? BASE_ROW);
  const feeds = {
    ...groupFeeds(graph, groups.length),
    ...ownVectors(graph, adapters),
    ...weights.feeds(adapters.map((adapter) => ({ adapter, part: 0, parts: 1 }))),
  };
  return { variant: graph.variant, groups: groups.length, feeds };
}

function inPieces(cheapest: PiecePlan, slots: number, { variant }: DecoderGraph, weights: SideBySide): LoraInputs {
  const plan = { ...cheapest, pieces: settled(cheapest.pieces, weights.held) };
  const { rows, sums } = pieceIndices(plan, slots);
  const feeds = {
    ...weights.feeds(plan.pieces),
    [pieceInputs.rows]: int64(rows, [plan.pieces.length, plan.members]),
    [pieceInputs.sums]: int64(sums, [slots, plan.levels]),
  };
  return { variant, groups: 1, feeds };
}

function ownVectors(graph: DecoderGraph, adapters: readonly RowAdapter[]): Record<string, ort.Tensor> {
  return graph.variant === 'full' ? vectorFeeds(graph, adapters) : {};
}

function groupFeeds(graph: DecoderGraph, groups: number): Record<string, ort.Tensor> {
  return Object.fromEntries(graph.groupWidths.map((width) => [siteInputs.group(width), int64([groups, -1, width])]));
}
