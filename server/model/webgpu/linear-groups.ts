/**
 * Linears that read the same input, taken as one product: q, k and v; gate and up; or a linear alone. On a GPU the number
 * of dispatches is what a small step costs, so weights of a group lie below each other and one product serves them all.
 */
import type { DecoderSpec, LinearSpec, ProjectionSpec } from '../spec.js';
import { projectionLinears } from '../spec.js';

/** One product: y [rows, out] of x [rows, in], where `out` is that of all linears together. */
export interface LinearGroup {
  /** Names the group's inputs in every graph; unique in the model. */
  readonly key: string;
  readonly linears: readonly LinearSpec[];
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** True for the head, whose rounding is felt in every answer: it has 8 bits where other weights have 4. */
  readonly isHead?: boolean;
}

/** The group of some linears with one input. */
export function groupOf(linears: readonly LinearSpec[]): LinearGroup {
  const [first] = linears;
  return {
    key: linears.map(({ module }) => module).join('+'),
    linears,
    inFeatures: first!.inFeatures,
    outFeatures: linears.reduce((sum, { outFeatures }) => sum + outFeatures, 0),
  };
}

/** The head as a group of its own. */
export const headGroup = ({ head }: DecoderSpec): LinearGroup => ({ ...groupOf([head.linear]), isHead: true });

/** A projection as one product. */
export interface ProjectedGroup {
  readonly group: LinearGroup;
  /** Equal parts of the result, each of which is split into `sizes`. */
  readonly parts: number;
  readonly sizes: readonly number[];
}

/** The group of a projection, and how its result is split. */
export function groupOfProjection(projection: ProjectionSpec): ProjectedGroup {
  const group = groupOf(projectionLinears(projection));
  if (projection.kind === 'fused') return { group, parts: projection.parts ?? 1, sizes: projection.sizes };
  return { group, parts: 1, sizes: group.linears.map(({ outFeatures }) => outFeatures) };
}

/** All groups of a decoder, head included, in the order of the graph. */
export function allGroups(spec: DecoderSpec): LinearGroup[] {
  const groups: LinearGroup[] = [];
  for (const { attention, mlp } of spec.layers) {
    groups.push(groupOfProjection(attention.qkv).group, groupOf([attention.output]));
    groups.push(groupOfProjection(mlp.input).group, groupOf([mlp.output]));
  }
  groups.push(headGroup(spec));
  return groups;
}
