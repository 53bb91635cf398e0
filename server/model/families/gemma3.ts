import type { ConfigReader } from '../config-reader.js';
import { buildRope } from '../rope.js';
import type { DecoderSpec, RopeSpec } from '../spec.js';
import { readSizes, readWindows, type Sizes } from './config-fields.js';
import { gemmaDecoder, gemmaLayer, readShared } from './gemma2.js';
import { attention, rmsNorm } from './llama-like.js';

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
  return gemmaDecoder(config, 'gemma3_text', sizes, { layers, ropes: readTwoRopes(config, sizes), headSoftcap });
}

/**
 * The full layers' table, then the sliding layers'. transformers 5 keys `rope_parameters` by layer type; before, the
 * sliding layers had a theta of their own and the scaling was for the full ones alone.
 */
function readTwoRopes(config: ConfigReader, sizes: Sizes): RopeSpec[] {
  const parameters = config.object('rope_parameters');
  const older = config.object('rope_scaling');
  if (parameters !== undefined && older !== undefined)
    throw config.fault('rope_scaling', 'nothing beside rope_parameters', config.raw('rope_scaling'));
  const build = (scaling: ConfigReader | undefined, theta: number) => {
    const rope = buildRope({
      theta: scaling?.positive('rope_theta', theta) ?? theta,
      rotaryDim: sizes.headDim,
      contextLength: sizes.context,
      scaling,
    });
    scaling?.finish();
    return rope;
  };
  const ropes = [
    build(parameters?.object('full_attention') ?? older, config.positive('rope_theta', 1_000_000)),
    build(parameters?.object('sliding_attention'), config.positive('rope_local_base_freq', 10_000)),
  ];
  parameters?.finish();
  return ropes;
}
