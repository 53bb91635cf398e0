/**
 * Whether an adapter says that it was trained on the base that is served. Names are all there is to compare: shapes and
 * vocabulary are checked elsewhere, always. Folders and hub names of one model differ in everything but the last part.
 */
import type { Faults } from './faults.js';
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

/** Where the names differ that is a fault of its own, or what may be behind others. */
export function noteForeign(named: string, base: AdapterBase, check: BaseCheck, faults: Faults): void {
  const foreign = check === 'off' ? undefined : foreignBase(named, base);
  if (foreign === undefined) return;
  if (check === 'strict') faults.add(`adapter_config.json: ${foreign}`);
  else faults.explain(foreign);
}

/**
 * The base under the names that it has for those who serve it.
 * @param name what it is served as
 * @param origin the source that it was fetched from, without secrets; the folder that holds it has a name of no meaning
 */
export function servedBase(base: AdapterBase, name: string, origin?: string): AdapterBase {
  const aliases = [...base.aliases, base.nameOrPath, name];
  return { ...base, nameOrPath: origin ?? base.nameOrPath, aliases };
}

/**
 * `org/Name`, `/models/name/`, a hub cache folder `models--org--Name/snapshots/<commit>`, `hf://org/Name@main/folder`
 * and `https://host/name.tar.gz` are all "name".
 */
function lastPart(name: string): string {
  const repository =
    /models--[^/\\]+--([^/\\]+)[/\\]snapshots[/\\]/.exec(name)?.[1] ?? /^hf:\/\/[^/]+\/([^/@]+)/.exec(name)?.[1];
  const place = /^https?:/.test(name) ? name.replace(/(\.(tar\.gz|tgz|tar|zip))?([?#].*)?$/i, '') : name;
  return (repository ?? place.split(/[/\\]/).filter(Boolean).at(-1) ?? '').toLowerCase();
}
