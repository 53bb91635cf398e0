/**
 * Turns what an adapter replaces into what it adds, so that the engine needs one mechanism for both: a replaced linear W'
 * becomes the low-rank pair of W' - W (with an identity on the narrower side), replaced rows of the output matrix a pair
 * of one rank per row. Reads base weights, so it runs where adapters are read, never on the engine thread.
 */
import { transpose } from './transpose.js';
import type { AdapterBase, BoundAdapter, BoundLinear } from './types.js';

/** The same adapter without `replaced` linears and `headRows`. */
export async function flattenReplaced(adapter: BoundAdapter, base: AdapterBase): Promise<BoundAdapter> {
  if (adapter.headRows === undefined && adapter.linears.every(({ replaced }) => replaced === undefined)) return adapter;
  const linears: BoundLinear[] = [];
  for (const linear of adapter.linears) {
    linears.push(linear.replaced === undefined ? linear : await differenceOf(linear, linear.replaced, base));
  }
  if (adapter.headRows !== undefined) {
    await addHeadRows(linears, adapter.headRows, base, adapter.invocationTokens !== undefined);
  }
  const { headRows, ...rest } = adapter;
  const before =
    floatCount(adapter.linears) + [...(headRows?.values() ?? [])].reduce((sum, row) => sum + row.length, 0);
  return { ...rest, linears, bytes: adapter.bytes + 4 * (floatCount(linears) - before) };
}

/** y' = y + x (W' - W)^T, beside whatever low-rank pair the linear has already. */
async function differenceOf(linear: BoundLinear, replaced: Float32Array, base: AdapterBase): Promise<BoundLinear> {
  const { inFeatures, outFeatures, conv1d } = base.modules.get(linear.module)!;
  const stored = await base.readWeight(`${linear.module}.weight`);
  const difference = new Float32Array(outFeatures * inFeatures); // [out, in]
  for (let o = 0; o < outFeatures; o += 1) {
    for (let i = 0; i < inFeatures; i += 1) {
      const at = o * inFeatures + i;
      difference[at] = replaced[at]! - stored[conv1d ? i * outFeatures + o : at]!;
    }
  }
  const { replaced: _, ...rest } = linear;
  const pair =
    outFeatures <= inFeatures
      ? { rank: outFeatures, a: difference, b: identity(outFeatures) }
      : { rank: inFeatures, a: identity(inFeatures), b: transpose(difference, outFeatures, inFeatures) };
  return { ...rest, rank: rest.rank + pair.rank, a: join(rest.a, pair.a), b: join(rest.b, pair.b) };
}

async function addHeadRows(
  linears: BoundLinear[],
  rows: ReadonlyMap<number, Float32Array>,
  base: AdapterBase,
  always: boolean,
): Promise<void> {
  const head = base.modules.get(base.headModule)!;
  const stored = await base.readWeight(`${base.headModule}.weight`); // [vocab, hidden]
  const hidden = head.inFeatures;
  const a = new Float32Array(rows.size * hidden);
  const b = new Float32Array(rows.size * head.outFeatures);
  for (const [rank, [id, row]] of [...rows].entries()) {
    for (let i = 0; i < hidden; i += 1) a[rank * hidden + i] = row[i]! - stored[id * hidden + i]!;
    b[rank * head.outFeatures + id] = 1;
  }
  const at = linears.findIndex((linear) => linear.module === base.headModule && (linear.always ?? false) === always);
  if (at < 0) linears.push({ module: base.headModule, rank: rows.size, scaling: 1, a, b, ...(always && { always }) });
  else {
    const known = linears[at]!;
    linears[at] = { ...known, rank: known.rank + rows.size, a: join(known.a, a), b: join(known.b, b) };
  }
}

function identity(size: number): Float32Array {
  const values = new Float32Array(size * size);
  for (let i = 0; i < size; i += 1) values[i * size + i] = 1;
  return values;
}

function join(first: Float32Array, second: Float32Array): Float32Array {
  if (first.length === 0) return second;
  const joined = new Float32Array(first.length + second.length);
  joined.set(first);
  joined.set(second, first.length);
  return joined;
}

function floatCount(linears: readonly BoundLinear[]): number {
  return linears.reduce(
    (sum, { a, b, gain, biasDelta, replaced }) =>
      sum + a.length + b.length + (gain?.length ?? 0) + (biasDelta?.length ?? 0) + (replaced?.length ?? 0),
    0,
  );
}
