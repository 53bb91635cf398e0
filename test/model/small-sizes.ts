/** Sizes of a config.json in tests, under Llama's names. */
export const SMALL_SIZES = {
  hidden_size: 64,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  num_hidden_layers: 2,
  intermediate_size: 96,
  vocab_size: 128,
};
