import type { ConfigReader } from '../config-reader.js';
import type { DecoderSpec, LayerSpec } from '../spec.js';
import { readActivation, readRope, readSizes } from './config-fields.js';
import { attention, decoder, layerNorm, linear, plainMlp } from './llama-like.js';

/** Nemotron (Minitron): layer norms stored as offsets from 1, plain MLP of squared ReLU, half of each head rotated. */
export function nemotron(config: ConfigReader): DecoderSpec {
  const sizes = readSizes(config, 'norm_eps', 1e-5);
  const { hidden, intermediate, epsilon } = sizes;
  const activation = readActivation(config, ['hidden_act'], 'relu2');
  const attentionBias = config.flag('attention_bias', false);
  const mlpBias = config.flag('mlp_bias', false);
  const norm = (module: string) => ({ ...layerNorm(module, hidden, epsilon), plusOne: true });
  const layers = Array.from({ length: sizes.layers }, (_, i): LayerSpec => {
    const prefix = `model.layers.${i}`;
    return {
      preAttentionNorm: norm(`${prefix}.input_layernorm`),
      attention: attention(prefix, sizes, { qkvBias: attentionBias, outputBias: attentionBias }),
      preMlpNorm: norm(`${prefix}.post_attention_layernorm`),
      mlp: plainMlp(
        linear(`${prefix}.mlp.up_proj`, hidden, intermediate, mlpBias),
        linear(`${prefix}.mlp.down_proj`, intermediate, hidden, mlpBias),
        activation,
      ),
    };
  });
  return decoder(config, 'nemotron', sizes, {
    layers,
    ropes: [readRope(config, sizes, { partial: 0.5 })],
    finalNorm: norm('model.norm'),
  });
}
