/** What the families that descend from GPT-2 have in common: names of fields, embeddings, the final norm. */
import type { ConfigReader } from '../config-reader.js';
import type { Activation, DecoderSpec, LayerSpec, LinearSpec, MlpSpec, RopeSpec } from '../spec.js';
import { readActivation, readHeads, type Sizes } from './config-fields.js';
import { decoder, layerNorm, plainMlp } from './llama-like.js';

/** Sizes and activation under GPT-2's names of fields. */
export interface GptFields extends Sizes {
  readonly activation: Activation;
}

/**
 * Reads them.
 * @param defaults the most positions, and the activation, where the config says nothing
 */
export function readGptFields(
  config: ConfigReader,
  defaults: { readonly context: number; readonly activation: string },
): GptFields {
  const heads = readHeads(config, 'n_embd', 'n_head');
  return {
    ...heads,
    layers: config.count('n_layer'),
    intermediate: config.count('n_inner', 4 * heads.hidden),
    vocab: config.count('vocab_size'),
    context: config.count('n_positions', defaults.context),
    epsilon: config.number('layer_norm_epsilon', 1e-5),
    activation: readActivation(config, ['activation_function'], defaults.activation),
  };
}

/** The norm in front of a block: `ln_1` or `ln_2`. */
export const gptNorm = (name: string, { hidden, epsilon }: Sizes) => layerNorm(name, hidden, epsilon);

/** The MLP of a layer, of linears that `make` names. */
export function gptMlp(
  prefix: string,
  { hidden, intermediate }: Sizes,
  activation: Activation,
  make: (module: string, inFeatures: number, outFeatures: number) => LinearSpec,
  [up, down]: readonly [up: string, down: string] = ['c_fc', 'c_proj'],
): MlpSpec {
  const name = `${prefix}.mlp`;
  return plainMlp(
    make(`${name}.${up}`, hidden, intermediate),
    make(`${name}.${down}`, intermediate, hidden),
    activation,
  );
}

/** Embeddings, final norm and head around the layers. Without a rotary table, positions are learned. */
export function gptDecoder(
  config: ConfigReader,
  modelType: string,
  sizes: Sizes,
  parts: { layers: readonly LayerSpec[]; ropes?: readonly RopeSpec[]; tiedByDefault: boolean; headBias?: boolean },
): DecoderSpec {
  return decoder(config, modelType, sizes, {
    ropes: [],
    ...(parts.ropes === undefined && { positions: { module: 'transformer.wpe', weight: 'transformer.wpe.weight' } }),
    ...parts,
    embedding: 'transformer.wte',
    finalNorm: layerNorm('transformer.ln_f', sizes.hidden, sizes.epsilon),
  });
}
