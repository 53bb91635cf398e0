/** Combinations of PEFT features whose meaning together is not defined here; they are refused, not guessed. */
import type { Faults } from './faults.js';
import type { PeftConfig } from './peft-config.js';
import type { Promised } from './target-match.js';
import type { AdapterBase } from './types.js';

/** Notes what of the promised adaptation cannot be applied together. */
export function checkCombinations(
  config: PeftConfig,
  promised: Promised,
  tokens: ReadonlyMap<string, readonly number[]>,
  base: AdapterBase,
  faults: Faults,
): void {
  const refuse = (what: string) => faults.addUnsupported(`adapter_config.json: ${what} is not supported`);
  for (const name of promised.lora.keys()) {
    const module = base.modules.get(name)!;
    if (promised.saved.has(name)) refuse(`${name} both in modules_to_save and with low-rank matrices`);
    if (module.kind !== 'embedding') continue;
    if (name !== base.embeddingModule) refuse(`LoRA on ${name}, an embedding of something other than tokens,`);
    if (config.loraBias) refuse(`lora_bias on the embedding ${name}`);
  }
  for (const name of promised.saved) {
    const module = base.modules.get(name)!;
    if (module.kind === 'embedding' && name !== base.embeddingModule) refuse(`replacing ${name}`);
  }
  if (base.headApart) {
    const apart = `on ${base.embeddingModule} and ${base.headModule} (config.json ties them, but they differ)`;
    if (tokens.has(base.embeddingModule)) refuse(`trainable_token_indices ${apart}`);
    if (config.ensureWeightTying) refuse(`ensure_weight_tying ${apart}`);
  }
  for (const name of tokens.keys()) {
    if (promised.lora.has(name) || promised.saved.has(name)) {
      refuse(`${name} with trainable_token_indices and another adaptation`);
    }
    const headToo = base.tiedHead && name === base.embeddingModule && !tokens.has(base.headModule);
    // PEFT itself cannot load these two; low-rank matrices come on top of the trained rows.
    if (headToo && promised.saved.has(base.headModule)) {
      refuse('trainable_token_indices of a tied model together with a replaced head');
    }
    if (headToo && promised.lora.has(base.headModule) && config.useDora) {
      refuse('trainable_token_indices of a tied model together with DoRA on the head');
    }
  }
  if (config.invocationTokens === null) return;
  // PEFT itself has no layers for these two: an activated adapter's matrices are plain ones on linears.
  if (config.useDora) refuse('alora_invocation_tokens with use_dora');
  if (promised.lora.has(base.embeddingModule)) refuse('alora_invocation_tokens with LoRA on the embedding');
  const beyond = config.invocationTokens.find((id) => id >= base.vocabSize);
  if (beyond !== undefined) {
    faults.add(`adapter_config.json: alora_invocation_tokens names token ${beyond}; the base has ${base.vocabSize}`);
  }
}
