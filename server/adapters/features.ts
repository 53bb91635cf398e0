/** Names of the PEFT features an adapter uses, and remarks about its config. */
import { type BaseCheck, foreignBase } from './base-identity.js';
import type { BindingPlan } from './binding-plan.js';
import type { PeftConfig } from './peft-config.js';
import type { AdapterBase, BoundAdapter } from './types.js';

/** The features that an adapter needs applied, sorted; names as in {@link BoundAdapter.features}. */
export function adapterFeatures(
  adapter: Omit<BoundAdapter, 'bytes'>,
  config: PeftConfig,
  base: AdapterBase,
): readonly string[] {
  const features = new Set<string>();
  const { linears, embedding } = adapter;
  const note = (name: string, used: boolean) => {
    if (used) features.add(name);
  };
  const lowRank = linears.some((linear) => linear.rank > 0) || embedding?.lora !== undefined;
  note('lora', lowRank);
  note('rslora', lowRank && config.useRslora);
  note('rank_pattern', lowRank && config.rankPattern.length > 0);
  note('alpha_pattern', lowRank && config.alphaPattern.length > 0);
  note('alora', config.invocationTokens !== null);
  note('lora_bias', lowRank && config.loraBias);
  note('embedding_lora', embedding?.lora !== undefined);
  note('dora', embedding?.lora?.gain !== undefined);
  note('replaced_embedding', embedding?.replaced !== undefined);
  // A vocabulary of its own also has rows; these are not trained one by one.
  note('trained_tokens', embedding?.rows !== undefined && config.trainableTokens.length > 0);
  note('trained_head_rows', adapter.headRows !== undefined);
  note('replaced_norm', adapter.norms.size > 0);
  note('resized_vocabulary', adapter.vocabulary !== undefined);
  note('norm_bias', adapter.normBiases !== undefined);
  for (const linear of linears) {
    note('lm_head', linear.module === base.headModule);
    note('dora', linear.gain !== undefined);
    note('replaced_linear', linear.replaced !== undefined);
    note('bias', linear.biasDelta !== undefined && (config.bias !== 'none' || linear.replaced !== undefined));
  }
  return [...features].sort();
}

/** Remarks that do not stop the adapter from working. */
export function configWarnings(
  config: PeftConfig,
  plan: BindingPlan,
  base: AdapterBase,
  baseCheck: BaseCheck,
): readonly string[] {
  const warnings = [...plan.promised.warnings];
  const foreign = baseCheck === 'warn' ? foreignBase(config.baseModel, base) : undefined;
  if (foreign !== undefined) warnings.push(foreign);
  const conv1d = [...plan.promised.lora.keys()]
    .map((name) => base.modules.get(name)!)
    .filter((m) => m.kind === 'linear');
  if (conv1d.length > 0 && conv1d.every((module) => module.conv1d !== config.fanInFanOut)) {
    warnings.push(`fan_in_fan_out is ${config.fanInFanOut}, but the base's layers say otherwise; the layers decide`);
  }
  return warnings;
}
