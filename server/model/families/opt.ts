import type { ConfigReader } from '../config-reader.js';
import type { DecoderSpec, LayerSpec } from '../spec.js';
import { readActivation, readHeads, type Sizes } from './config-fields.js';
import { decoder, layerNorm, linear, plainMlp } from './llama-like.js';

/** Rows of the table of positions that no token has. */
const FIRST_POSITION = 2;

/** OPT: learned positions from the third row of their table on, biases everywhere, layer norms, plain MLP. */
export function opt(config: ConfigReader): DecoderSpec {
  const heads = readHeads(config, 'hidden_size', 'num_attention_heads');
  const { hidden } = heads;
  const sizes: Sizes = {
    ...heads,
    layers: config.count('num_hidden_layers'),
    intermediate: config.count('ffn_dim'),
    vocab: config.count('vocab_size'),
    context: config.count('max_position_embeddings', 2048),
    epsilon: 1e-5,
  };
  const activation = readActivation(config, ['activation_function'], 'relu');
  const bias = config.flag('enable_bias', true);
  // OPT-350m differs in the first two.
  config.expect('do_layer_norm_before', true);
  config.expect('word_embed_proj_dim', hidden);
  config.expect('layer_norm_elementwise_affine', true);
  config.expect('_remove_final_layer_norm', false);
  const layers = Array.from({ length: sizes.layers }, (_, i): LayerSpec => {
    const prefix = `model.decoder.layers.${i}`;
    const square = (name: string) => linear(`${prefix}.self_attn.${name}`, hidden, hidden, bias);
    return {
      preAttentionNorm: layerNorm(`${prefix}.self_attn_layer_norm`, hidden, sizes.epsilon),
      attention: {
        qkv: { kind: 'separate', linears: [square('q_proj'), square('k_proj'), square('v_proj')] },
        output: square('out_proj'),
        scale: sizes.headDim ** -0.5,
        rope: undefined,
      },
      preMlpNorm: layerNorm(`${prefix}.final_layer_norm`, hidden, sizes.epsilon),
      mlp: plainMlp(
        linear(`${prefix}.fc1`, hidden, sizes.intermediate, bias),
        linear(`${prefix}.fc2`, sizes.intermediate, hidden, bias),
        activation,
      ),
    };
  });
  const module = 'model.decoder.embed_positions';
  return decoder(config, 'opt', sizes, {
    layers,
    ropes: [],
    embedding: 'model.decoder.embed_tokens',
    positions: { module, weight: `${module}.weight`, first: FIRST_POSITION },
    finalNorm: layerNorm('model.decoder.final_layer_norm', hidden, sizes.epsilon),
    tiedByDefault: true,
  });
}
