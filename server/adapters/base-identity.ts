/**
 * Whether an adapter says that it was trained on the base that is served. Names are all there is to compare: shapes and
 * vocabulary are checked elsewhere, always. Folders and hub names of one model differ in everything but the last part.
 */
import type { AdapterBase } from './types.js';

/** What to do when the names differ: refuse, note a warning, or nothing. */
export const BASE_CHECKS = ['strict', 'warn', 'off'] as const;
/** One of {@link BASE_CHECKS}. */
export type BaseCheck = (typeof BASE_CHECKS)[number];

/** Says how `base_model_name_or_path` differs from what is served; undefined when it agrees or names nothing. */
export function foreignBase(named: string, base: AdapterBase): string | undefined {
  const wanted = lastPart(named);
  const served = [base.nameOrPath, ...base.aliases].map(lastPart).filter((name) => name !== '');
  if (wanted === '' || served.includes(wanted)) return undefined;
  return `the config names the base ${JSON.stringify(named)}, served is ${JSON.stringify(base.nameOrPath)}`;
}

/** `org/Name`, `/models/name/` and a hub cache folder `models--org--Name/snapshots/<commit>` are all "name". */
function lastPart(name: string): string {
  const cached = /models--[^/\\]+--([^/\\]+)[/\\]snapshots[/\\]/.exec(name)?.[1];
  return (cached ?? name.split(/[/\\]/).filter(Boolean).at(-1) ?? '').toLowerCase();
}
