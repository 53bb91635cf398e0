/** Which `model_type` of config.json is which family. To add one: a file beside this one, and a line here. */
import { AppError } from '../../errors.js';
import { ConfigReader } from '../config-reader.js';
import type { DecoderSpec } from '../spec.js';
import { cohere, cohere2 } from './cohere.js';
import { exaone4 } from './exaone4.js';
import { gemma } from './gemma.js';
import { gemma2 } from './gemma2.js';
import { gemma3, gemma3Text } from './gemma3.js';
import { glm, glm4 } from './glm.js';
import { gptBigcode } from './gpt-bigcode.js';
import { gptNeo } from './gpt-neo.js';
import { gptNeox } from './gpt-neox.js';
import { gpt2 } from './gpt2.js';
import { gptj } from './gptj.js';
import { granite } from './granite.js';
import { llama } from './llama.js';
import { arcee, ernie45, helium, seedOss } from './llama-kin.js';
import { ministral, mistral } from './mistral.js';
import { nemotron } from './nemotron.js';
import { olmo2, olmo3 } from './olmo2.js';
import { opt } from './opt.js';
import { phi } from './phi.js';
import { phi3 } from './phi3.js';
import { qwen2, qwen3 } from './qwen.js';
import { smollm3 } from './smollm3.js';
import { stablelm } from './stablelm.js';
import { starcoder2 } from './starcoder2.js';

/** `model_type` -> the function that turns its config into a decoder. */
export const FAMILIES: Readonly<Record<string, (config: ConfigReader) => DecoderSpec>> = {
  arcee,
  cohere,
  cohere2,
  ernie4_5: ernie45,
  exaone4,
  gemma,
  gemma2,
  gemma3,
  gemma3_text: gemma3Text,
  glm,
  glm4,
  gpt2,
  gpt_bigcode: gptBigcode,
  gpt_neo: gptNeo,
  gpt_neox: gptNeox,
  gptj,
  granite,
  helium,
  llama,
  ministral,
  mistral,
  nemotron,
  olmo2,
  olmo3,
  opt,
  phi,
  phi3,
  qwen2,
  qwen3,
  seed_oss: seedOss,
  smollm3,
  stablelm,
  starcoder2,
};

/**
 * Describes the decoder of a config.json.
 * @param where file name for error messages
 * Throws MODEL_INVALID for an unknown family, a missing or impossible field, or a field that is not implemented.
 */
export function describeDecoder(fields: Record<string, unknown>, where: string): DecoderSpec {
  const type = fields.model_type;
  const family = typeof type === 'string' && Object.hasOwn(FAMILIES, type) ? FAMILIES[type] : undefined;
  if (family === undefined) {
    throw new AppError(
      'MODEL_INVALID',
      `${where}: model_type ${JSON.stringify(type ?? null)} is not supported; supported: ${Object.keys(FAMILIES).sort().join(', ')}`,
    );
  }
  const config = new ConfigReader(fields, where);
  config.raw('model_type');
  if (fields.quantization_config != null) {
    throw new AppError(
      'MODEL_INVALID',
      `${where}: quantization_config: quantised checkpoints are not supported; use the unquantised folder`,
    );
  }
  const spec = family(config);
  config.finish();
  if (!Number.isInteger(spec.headDim)) {
    throw new AppError('MODEL_INVALID', `${where}: hidden_size is not divisible by the number of attention heads`);
  }
  return spec;
}
