/** Which code is the operator's: handlers of models, and functions of workflows. */
import path from 'node:path';
import { isBelow, realPathOf } from '../adapters/real-path.js';
import type { ServeConfig } from '../config/serve-config.js';

/**
 * True for what lies in a folder that the operator named for models or workflows, links followed, and in no folder of
 * adapters there: others may write to those, as to `--allow-path`.
 */
export function isTrustedCode(place: string, { models, modelStore, workflows }: ServeConfig): boolean {
  const real = realPathOf(place);
  const roots = [
    ...models.map(({ folder }) => folder),
    ...(modelStore === undefined ? [] : [modelStore]),
    ...workflows.map((one) => (/\.(json|ya?ml)$/i.test(one) ? path.dirname(one) : one)),
  ].map(realPathOf);
  if (models.some(({ adapterFolders }) => adapterFolders.some((one) => isBelow(real, realPathOf(one))))) return false;
  return roots.some((root) => isBelow(real, root) && !path.relative(root, real).split(path.sep).includes('adapters'));
}
