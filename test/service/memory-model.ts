/** A model in memory for tests of the inference service: a golden tokenizer, the memory engine, counted leases. */
import { fileURLToPath } from 'node:url';
import type { AdapterBase } from '../../server/adapters/types.js';
import { AppError } from '../../server/errors.js';
import type { AdapterLeases, LoadedModel } from '../../server/service/ports.js';
import type { ModelInfo } from '../../server/service/types.js';
import { loadTokenizer } from '../../server/text/hf-tokenizer.js';
import { loadChatTemplate } from '../../server/text/jinja-template.js';
import { MemoryEngine } from './memory-engine.js';

const folder = fileURLToPath(new URL('../../../shared/golden/models/llama/', import.meta.url));
const [tokenizer, chatTemplate] = await Promise.all([loadTokenizer(folder), loadChatTemplate(folder)]);

/** Size of the tokenizer's vocabulary. */
export const VOCAB_SIZE = 384;
/** The end-of-sequence id. */
export const EOS = 382;

const info: ModelInfo = {
  name: 'tiny',
  path: folder,
  modelType: 'llama',
  parameters: 1,
  dtype: 'fp32',
  contextLength: 256,
  vocabSize: VOCAB_SIZE,
  fingerprint: 'base0',
  ready: true,
  loraEnabled: true,
};

/** A model with an engine of its own. */
export function memoryModel(name = 'tiny'): LoadedModel & { readonly engine: MemoryEngine } {
  const engine = new MemoryEngine(VOCAB_SIZE);
  // Adapter binding is not part of these tests.
  const base = {} as AdapterBase;
  return { info: { ...info, name }, engine, tokenizer, chatTemplate, eosIds: [EOS], base, close: () => engine.close() };
}

/** Leases every adapter but `missing`; `held` tells how many selections are leased, `releases` how often each was freed. */
export class CountedLeases implements AdapterLeases {
  readonly releases: number[] = [];
  /** Runs while the leases are being acquired. */
  meanwhile: () => void = () => {};

  get held(): number {
    return this.releases.filter((count) => count === 0).length;
  }

  async acquire(_model: string, selections: Parameters<AdapterLeases['acquire']>[1]) {
    await new Promise((resolve) => setImmediate(resolve));
    this.meanwhile();
    if (selections.flat().some(({ name }) => name === 'missing')) {
      throw new AppError('ADAPTER_NOT_REGISTERED', 'adapter "missing" is not registered');
    }
    return selections.map((selection) => {
      const at = this.releases.push(0) - 1;
      return {
        leases: selection.map(({ name, weight }) => ({ name, weight, digest: `digest-of-${name}` })),
        release: () => {
          this.releases[at]!++;
        },
      };
    });
  }
}
