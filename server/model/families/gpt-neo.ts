import type { ConfigReader } from '../config-reader.js';
import type { DecoderSpec, LayerSpec } from '../spec.js';
import { readActivation, readHeads, type Sizes } from './config-fields.js';
import { gptDecoder, gptMlp, gptNorm } from './gpt-fields.js';
import { linear } from './llama-like.js';

/** GPT-Neo: learned positions, scores without a factor, a window on the layers that are called local. */
export function gptNeo(config: ConfigReader): DecoderSpec {
  const heads = readHeads(config, 'hidden_size', 'num_heads');
  const { hidden } = heads;
  const sizes: Sizes = {
    ...heads,
    layers: config.count('num_layers'),
    intermediate: config.count('intermediate_size', 4 * hidden),
    vocab: config.count('vocab_size'),
    context: config.count('max_position_embeddings', 2048),
    epsilon: config.number('layer_norm_epsilon', 1e-5),
  };
  const activation = readActivation(config, ['activation_function'], 'gelu_new');
  const window = config.count('window_size', 256);
  const layers = readKinds(config, sizes.layers).map((kind, i): LayerSpec => {
    const prefix = `transformer.h.${i}`;
    const square = (name: string, bias = false) => linear(`${prefix}.attn.attention.${name}`, hidden, hidden, bias);
    return {
      preAttentionNorm: gptNorm(`${prefix}.ln_1`, sizes),
      attention: {
        qkv: { kind: 'separate', linears: [square('q_proj'), square('k_proj'), square('v_proj')] },
        output: square('out_proj', true),
        scale: 1,
        window: kind === 'local' ? window : undefined,
        rope: undefined,
      },
      preMlpNorm: gptNorm(`${prefix}.ln_2`, sizes),
      mlp: gptMlp(prefix, sizes, activation, (...shape) => linear(...shape, true)),
    };
  });
  return gptDecoder(config, 'gpt_neo', sizes, { layers, tiedByDefault: true });
}

/** `global` or `local` for every layer: `attention_types` has patterns and how often each comes. */
function readKinds(config: ConfigReader, layers: number): string[] {
  const types = config.raw('attention_types') ?? [[['global', 'local'], 12]];
  const wanted = `patterns of global and local for ${layers} layers, as [[["global", "local"], ${layers / 2}]]`;
  if (!Array.isArray(types) || !types.every(isPattern)) throw config.fault('attention_types', wanted, types);
  const kinds = types.flatMap(([pattern, times]) => new Array<string[]>(times).fill(pattern).flat());
  if (kinds.length !== layers) throw config.fault('attention_types', wanted, types);
  // The same, written out, in files of transformers 4.
  const written = config.texts('attention_layers');
  if (written !== undefined && written.join() !== kinds.join())
    throw config.fault('attention_layers', `what attention_types says: ${kinds.join(', ')}`, written);
  return kinds;
}

function isPattern(value: unknown): value is [pattern: string[], times: number] {
  if (!Array.isArray(value) || value.length !== 2) return false;
  const [pattern, times] = value;
  const known = (kind: unknown) => kind === 'global' || kind === 'local';
  return Array.isArray(pattern) && pattern.every(known) && Number.isInteger(times) && times > 0 && times < 10_000;
}
