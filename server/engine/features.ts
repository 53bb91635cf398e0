/** PEFT features that the engine applies; an adapter with any other is refused. */
export const SUPPORTED_FEATURES: ReadonlySet<string> = new Set([
  'lora',
  'rslora',
  'rank_pattern',
  'alpha_pattern',
  'lm_head',
  'dora',
  'bias',
  'lora_bias',
  'replaced_linear',
  'replaced_norm',
  'norm_bias',
  'replaced_embedding',
  'embedding_lora',
  'trained_tokens',
  'trained_head_rows',
  'alora',
]);
