import type { ConfigReader } from '../config-reader.js';
import type { DecoderSpec } from '../spec.js';
import { readActivation, readRope, readSizes } from './config-fields.js';
import { attention, decoder, layerNorm, linear, plainMlp } from './llama-like.js';

/** Phi-1, 1.5 and 2: attention and MLP side by side on one norm, biases everywhere, the head included. */
export function phi(config: ConfigReader): DecoderSpec {
  const sizes = readSizes(config, 'layer_norm_eps', 1e-5);
  const activation = readActivation(config, ['hidden_act'], 'gelu_new');
  const qkLayerNorm = config.flag('qk_layernorm', false);
  const layers = Array.from({ length: sizes.layers }, (_, i) => {
    const prefix = `model.layers.${i}`;
    return {
      preAttentionNorm: layerNorm(`${prefix}.input_layernorm`, sizes.hidden, sizes.epsilon),
      attention: attention(prefix, sizes, {
        qkvBias: true,
        outputBias: true,
        outputName: 'dense',
        ...(qkLayerNorm && {
          qkNorm: (name) =>
            layerNorm(`${prefix}.self_attn.${name.replace('norm', 'layernorm')}`, sizes.headDim, sizes.epsilon),
        }),
      }),
      mlp: plainMlp(
        linear(`${prefix}.mlp.fc1`, sizes.hidden, sizes.intermediate, true),
        linear(`${prefix}.mlp.fc2`, sizes.intermediate, sizes.hidden, true),
        activation,
      ),
      parallel: true,
    };
  });
  return decoder(config, 'phi', sizes, {
    layers,
    ropes: [readRope(config, sizes, { partial: 0.5 })],
    finalNorm: layerNorm('model.final_layernorm', sizes.hidden, sizes.epsilon),
    headBias: true,
  });
}
