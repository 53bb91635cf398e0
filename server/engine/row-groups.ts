/** Which rows of a mixed step share a product: neighbouring slots of one selection, in groups of equal size. */

/**
 * The selection of each group, for the largest groups in which no two rows differ.
 * @param slots selections by slot; undefined = free, which goes with any neighbour
 * @returns n selections, each for slots.length / n slots side by side; undefined = a group of free slots
 */
export function rowGroups<S extends { readonly key: string }>(slots: readonly (S | undefined)[]): (S | undefined)[] {
  for (let members = slots.length; members > 1; members -= 1) {
    if (slots.length % members !== 0) continue;
    const groups = cut(slots, members);
    if (groups !== undefined) return groups;
  }
  return [...slots];
}

/** The groups of so many slots, if the rows of each have one selection. */
function cut<S extends { readonly key: string }>(
  slots: readonly (S | undefined)[],
  members: number,
): (S | undefined)[] | undefined {
  const groups: (S | undefined)[] = [];
  for (let start = 0; start < slots.length; start += members) {
    const rows = slots.slice(start, start + members).filter((row) => row !== undefined);
    if (rows.some(({ key }) => key !== rows[0]!.key)) return undefined;
    groups.push(rows[0]);
  }
  return groups;
}
