/** `trainable_token_indices`: which rows of the embedding or the output matrix an adapter replaces. */
import type { Faults } from './faults.js';
import type { PeftConfig } from './peft-config.js';
import type { AdapterBase } from './types.js';

const FIELD = 'adapter_config.json: trainable_token_indices';

/** Full path of the module that a name of the config means: the embedding or the head. */
function resolve(name: string | null, base: AdapterBase): string | undefined {
  if (name === null) return base.embeddingModule;
  return [base.embeddingModule, base.headModule].find((path) => path === name || path.endsWith(`.${name}`));
}

/**
 * Module path -> token ids, in the order of the file's rows. Unknown modules and impossible ids are noted. A tied head
 * shares the embedding's rows unless it is named with ids of its own; named alone, only the output changes.
 */
export function promisedTokens(
  config: PeftConfig,
  base: AdapterBase,
  faults: Faults,
): ReadonlyMap<string, readonly number[]> {
  const result = new Map<string, readonly number[]>();
  for (const [name, ids] of config.trainableTokens) {
    const module = resolve(name, base);
    if (module === undefined) {
      faults.add(`${FIELD} names ${JSON.stringify(name)}, which is neither the embedding nor the head of the base`);
      continue;
    }
    const beyond = ids.find((id) => id >= base.vocabSize);
    if (beyond !== undefined) {
      faults.add(`${FIELD} names row ${beyond}; the base has ${base.vocabSize} rows, 0 to ${base.vocabSize - 1}`);
    } else if (new Set(ids).size !== ids.length) faults.add(`${FIELD} names a row twice`);
    else result.set(module, ids);
  }
  // Named with the embedding's ids, a tied head shares its rows; with others, each has its own.
  const [rows, outputs] = [result.get(base.embeddingModule), result.get(base.headModule)];
  if (base.tiedHead && rows?.length === outputs?.length && rows?.every((id, i) => id === outputs![i])) {
    result.delete(base.headModule);
  }
  return result;
}
