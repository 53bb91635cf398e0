/** Families with layer norms and biases: StarCoder2, StableLM, Phi-1.5/2. */
import type { ConfigReader } from '../config-reader.js';
import type { DecoderSpec, LinearSpec, MlpSpec } from '../spec.js';
import {
  attention,
  decoder,
  gatedMlp,
  layerNorm,
  linear,
  readActivation,
  readRope,
  readSizes,
  readWindows,
} from './llama-like.js';

/** StarCoder2: biases everywhere (unless switched off), plain MLP, sliding window. */
export function starcoder2(config: ConfigReader): DecoderSpec {
  const sizes = readSizes(config, 'norm_epsilon', 1e-5);
  const activation = readActivation(config, ['hidden_act'], 'gelu_pytorch_tanh');
  const bias = config.flag('use_bias', true);
  const windows = readWindows(config, sizes.layers, config.optionalNumber('sliding_window'), () => true);
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

/** StableLM 2 and 3B: a quarter of each head rotated; attention and MLP side by side where the config says. */
export function stablelm(config: ConfigReader): DecoderSpec {
  const sizes = readSizes(config, 'layer_norm_eps', 1e-5);
  const activation = readActivation(config, ['hidden_act'], 'silu');
  config.expect('qk_layernorm', false, false);
  const qkvBias = config.flag('use_qkv_bias', false);
  const parallel = config.flag('use_parallel_residual', false);
  const layers = Array.from({ length: sizes.layers }, (_, i) => {
    const prefix = `model.layers.${i}`;
    return {
      preAttentionNorm: layerNorm(`${prefix}.input_layernorm`, sizes.hidden, sizes.epsilon),
      attention: attention(prefix, sizes, { qkvBias }),
      preMlpNorm: parallel ? undefined : layerNorm(`${prefix}.post_attention_layernorm`, sizes.hidden, sizes.epsilon),
      mlp: gatedMlp(prefix, sizes, activation),
      parallel,
    };
  });
  return decoder(config, 'stablelm', sizes, {
    layers,
    ropes: [readRope(config, sizes, 10_000, 0.25)],
    finalNorm: layerNorm('model.norm', sizes.hidden, sizes.epsilon),
  });
}

/** Phi-1, 1.5 and 2: attention and MLP side by side on one norm, biases everywhere, the head included. */
export function phi(config: ConfigReader): DecoderSpec {
  const sizes = readSizes(config, 'layer_norm_eps', 1e-5);
  const activation = readActivation(config, ['hidden_act'], 'gelu_new');
  config.expect('qk_layernorm', false, false);
  const layers = Array.from({ length: sizes.layers }, (_, i) => {
    const prefix = `model.layers.${i}`;
    return {
      preAttentionNorm: layerNorm(`${prefix}.input_layernorm`, sizes.hidden, sizes.epsilon),
      attention: attention(prefix, sizes, { qkvBias: true, outputBias: true, outputName: 'dense' }),
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
    ropes: [readRope(config, sizes, 10_000, 0.5)],
    finalNorm: layerNorm('model.final_layernorm', sizes.hidden, sizes.epsilon),
    headBias: true,
  });
}

function plainMlp(up: LinearSpec, down: LinearSpec, activation: MlpSpec['activation']): MlpSpec {
  return { gated: false, input: { kind: 'separate', linears: [up] }, output: down, activation };
}
