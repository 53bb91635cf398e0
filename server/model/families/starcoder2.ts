import type { ConfigReader } from '../config-reader.js';
import type { DecoderSpec } from '../spec.js';
import { readActivation, readOneWindow, readRope, readSizes } from './config-fields.js';
import { attention, decoder, layerNorm, linear, plainMlp } from './llama-like.js';

/** StarCoder2: biases everywhere (unless switched off), plain MLP, sliding window. */
export function starcoder2(config: ConfigReader): DecoderSpec {
  const sizes = readSizes(config, 'norm_epsilon', 1e-5);
  const activation = readActivation(config, ['hidden_act'], 'gelu_pytorch_tanh');
  const bias = config.flag('use_bias', true);
  // Its first configs carry settings of the trainer, some under two names; transformers reads one.
  config.expect('norm_type', 'layer_norm');
  config.expect('mlp_type', 'default');
  for (const field of [
    'activation_function',
    'layer_norm_epsilon',
    'attention_softmax_in_fp32',
    'scale_attention_softmax_in_fp32',
    'scale_attn_weights',
  ]) {
    config.raw(field);
  }
  const windows = readOneWindow(config, sizes.layers);
  const layers = windows.map((window, i) => {
    const prefix = `model.layers.${i}`;
    return {
      preAttentionNorm: layerNorm(`${prefix}.input_layernorm`, sizes.hidden, sizes.epsilon),
      attention: attention(prefix, sizes, { qkvBias: bias, outputBias: bias, window }),
      preMlpNorm: layerNorm(`${prefix}.post_attention_layernorm`, sizes.hidden, sizes.epsilon),
      mlp: plainMlp(
        linear(`${prefix}.mlp.c_fc`, sizes.hidden, sizes.intermediate, bias),
        linear(`${prefix}.mlp.c_proj`, sizes.intermediate, sizes.hidden, bias),
        activation,
      ),
    };
  });
  return decoder(config, 'starcoder2', sizes, {
    layers,
    ropes: [readRope(config, sizes)],
    finalNorm: layerNorm('model.norm', sizes.hidden, sizes.epsilon),
    tiedByDefault: true,
  });
}
