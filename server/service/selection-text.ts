/** How messages name the adapters that a row has. */

/** Names with their weights where those are not 1, joined as a sum: `"a" + "b" x 0.5`; '' for the base model. */
export function selectionText(entries: readonly { readonly name: string; readonly weight: number }[]): string {
  return entries.map(({ name, weight }) => `${JSON.stringify(name)}${weight === 1 ? '' : ` x ${weight}`}`).join(' + ');
}
