import type { ConfigReader } from '../config-reader.js';
import { type DecoderSpec, renameModules } from '../spec.js';
import { readSizes, readTwoRopes, readWindows } from './config-fields.js';
import { gemmaDecoder, gemmaLayer, readShared } from './gemma2.js';
import { attention, rmsNorm } from './llama-like.js';

/** What transformers takes for sizes that a `text_config` leaves out. */
const TEXT_SIZES = {
  vocab_size: 262_208,
  hidden_size: 2304,
  intermediate_size: 9216,
  num_hidden_layers: 26,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  head_dim: 256,
  max_position_embeddings: 131_072,
};

/** Fields of the part that sees, and of the places of pictures in a text. */
const VISION_FIELDS =
  'vision_config mm_tokens_per_image image_token_index image_token_id boi_token_index boi_token_id eoi_token_index eoi_token_id';

/** Gemma 3 with eyes (4B and larger): the part that reads and writes text is served, which lies one module deeper. */
export function gemma3(config: ConfigReader): DecoderSpec {
  for (const field of VISION_FIELDS.split(' ')) config.raw(field);
  const text = config.object('text_config', TEXT_SIZES);
  if (text === undefined) throw config.fault('text_config', 'the sizes of the text model', undefined);
  text.expect('model_type', 'gemma3_text');
  text.flag('tie_word_embeddings', true); // the head belongs to the whole, and so does the switch
  const tied = config.flag('tie_word_embeddings', true);
  const spec = gemma3Text(text);
  text.finish();
  const { head, ...rest } = renameModules(spec, (name) => name.replace(/^model\./, 'model.language_model.'));
  const linear = { ...head.linear, weight: tied ? rest.embedding.weight : 'lm_head.weight' };
  return { ...rest, modelType: 'gemma3', head: { linear, tied } };
}

/** Gemma 3 (text): norms on q and k, five sliding layers with their own rotary table to each full one. */
export function gemma3Text(config: ConfigReader): DecoderSpec {
  const sizes = readSizes(config);
  const window = config.count('sliding_window', 4096);
  const pattern = config.count('sliding_window_pattern', 6);
  const windows = readWindows(config, sizes.layers, window, (layer) => (layer + 1) % pattern !== 0);
  config.optionalNumber('attn_logit_softcapping'); // has no effect in the reference: its attention does not get it
  const shared = readShared(config);
  const layers = windows.map((layerWindow, i) => {
    const prefix = `model.layers.${i}`;
    const spec = attention(prefix, sizes, {
      ...shared.attention,
      window: layerWindow,
      rope: layerWindow === undefined ? 0 : 1,
      qkNorm: (name) => rmsNorm(`${prefix}.self_attn.${name}`, sizes.headDim, sizes.epsilon, true),
    });
    return gemmaLayer(i, sizes, shared, spec);
  });
  const headSoftcap = config.optionalNumber('final_logit_softcapping');
  const ropes = readTwoRopes(config, sizes, {
    full: config.positive('rope_theta', 1_000_000),
    sliding: config.positive('rope_local_base_freq', 10_000),
  });
  return gemmaDecoder(config, 'gemma3_text', sizes, { layers, ropes, headSoftcap });
}
