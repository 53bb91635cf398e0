/**
 * What the config promises of a module's tensors: the use that each has, the shapes it may have, and those that must be
 * there. Names and shapes are all it takes.
 */
import type { PeftConfig } from './peft-config.js';
import type { Promised } from './target-match.js';
import type { ParsedTensorName, TensorPart } from './tensor-name.js';
import type { AdapterBase, TargetModule } from './types.js';

/** What a tensor is used for: a part of the adaptation, or only a copy of the base to compare with. */
export type SlotUse =
  | Exclude<TensorPart, 'base_layer.weight' | 'original_module.bias'>
  | 'base weight'
  | 'base bias'
  /** The bias of a module that is replaced as a whole: PEFT saves it with bias = "all", and nothing uses it. */
  | 'replaced bias';

/** The use of a tensor, or why it has none. */
type TensorUse = { readonly use: SlotUse } | { readonly wrong: string };

/** What decides over uses. */
export interface PlanContext {
  readonly config: PeftConfig;
  /** With as many rows as the adapter's tables have. */
  readonly base: AdapterBase;
  readonly promised: Promised;
  /** Module -> token ids whose rows are replaced. */
  readonly tokens: ReadonlyMap<string, readonly number[]>;
}

/**
 * What PEFT may write twice: by the module, and by the copy of it that is trained; by both modules of a tied table; DoRA's
 * magnitudes of the embedding and the head with and without `.weight`, where their tables are saved along.
 */
export const MAY_REPEAT: ReadonlySet<SlotUse> = new Set([
  'weight',
  'bias',
  'trainable_tokens_delta',
  'lora_magnitude_vector',
]);

/** Decides the use of a tensor, or says why it has none. */
export function useOf({ module, part }: ParsedTensorName, plan: PlanContext): TensorUse {
  const { config, promised, base } = plan;
  const { name, kind } = module;
  const use = (found: SlotUse): TensorUse => ({ use: found });
  const wrong = (why: string): TensorUse => ({ wrong: why });
  const isVocabulary = name === base.embeddingModule || name === base.headModule;
  switch (part) {
    case 'base_layer.weight':
      return use('base weight');
    case 'weight':
      if (promised.saved.has(name)) return use('weight');
      if (isVocabulary) return use('base weight'); // PEFT saves both tables along when the vocabulary was resized.
      return wrong(`it is a whole weight, but modules_to_save does not name ${name}`);
    case 'bias':
      if (!module.hasBias) return wrong(`the base has no bias at ${name}`);
      if (replacesBias(module, plan)) return use('bias');
      if (isVocabulary) return use('base bias');
      return wrong(`it is a base bias, but the config says bias = "${config.bias}"`);
    case 'original_module.bias':
      return promised.saved.has(name) ? use('replaced bias') : wrong(`modules_to_save does not name ${name}`);
    case 'trainable_tokens_delta':
      return plan.tokens.has(name) ? use(part) : wrong(`trainable_token_indices does not name ${name}`);
    default:
  }
  if (!promised.lora.has(name)) return wrong(`the config does not target ${name}`);
  const embeddingPart = part === 'lora_embedding_A' || part === 'lora_embedding_B';
  if (part !== 'lora_magnitude_vector' && embeddingPart !== (kind === 'embedding'))
    return wrong(`${name} is not ${embeddingPart ? 'an embedding' : 'a linear layer'}`);
  if (part === 'lora_magnitude_vector' && !config.useDora) return wrong('it belongs to DoRA, but use_dora is false');
  if (part === 'lora_B.bias' && !config.loraBias) return wrong('it is a bias of lora_B, but lora_bias is false');
  return use(part);
}

/** True where the adapter brings the module's bias. */
function replacesBias({ name }: TargetModule, { config, promised }: PlanContext): boolean {
  return promised.saved.has(name) || config.bias === 'all' || (config.bias === 'lora_only' && promised.lora.has(name));
}

/** Shapes that a tensor of this use may have; the first is the usual one. */
export function shapesOf(module: TargetModule, use: SlotUse, plan: PlanContext): number[][] {
  const { inFeatures, outFeatures, name } = module;
  const rank = plan.promised.lora.get(name)?.rank ?? 0;
  switch (use) {
    case 'lora_A':
    case 'lora_embedding_A':
      return [[rank, inFeatures]];
    case 'lora_B':
    case 'lora_embedding_B':
      return [[outFeatures, rank]];
    case 'lora_B.bias':
    case 'bias':
    case 'base bias':
    case 'replaced bias':
      return [[outFeatures]];
    case 'lora_magnitude_vector':
      return [[outFeatures], [1, outFeatures]];
    case 'trainable_tokens_delta':
      return [[plan.tokens.get(name)?.length ?? 0, module.kind === 'embedding' ? outFeatures : inFeatures]];
    case 'weight':
    case 'base weight':
      return [weightShape(module)];
  }
}

/** Shape of a module's stored base weight. */
function weightShape(module: TargetModule): number[] {
  if (module.kind === 'norm') return [module.outFeatures];
  if (module.kind === 'embedding' || module.conv1d) return [module.inFeatures, module.outFeatures];
  return [module.outFeatures, module.inFeatures];
}

/** Uses that a module must have tensors for. */
export function requiredUses(module: TargetModule, plan: PlanContext): SlotUse[] {
  const { config, promised } = plan;
  const uses: SlotUse[] = [];
  const targeted = promised.lora.has(module.name);
  if (targeted && module.kind === 'embedding') uses.push('lora_embedding_A', 'lora_embedding_B');
  else if (targeted) {
    uses.push('lora_A', 'lora_B');
    if (config.loraBias) uses.push('lora_B.bias');
  }
  if (targeted && config.useDora) uses.push('lora_magnitude_vector');
  if (promised.saved.has(module.name)) uses.push('weight');
  if (module.hasBias && replacesBias(module, plan)) uses.push('bias');
  if (plan.tokens.has(module.name)) uses.push('trainable_tokens_delta');
  return uses;
}
