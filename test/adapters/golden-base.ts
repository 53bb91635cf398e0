/** An {@link AdapterBase} for the golden models, built from config.json alone: an independent second opinion on the engine's own table. */
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { openSafetensorsSet } from '../../server/adapters/safetensors-set.js';
import { toFloat32 } from '../../server/adapters/tensor-dtype.js';
import type { AdapterBase, TargetModule } from '../../server/adapters/types.js';

/** The golden folder. */
export const GOLDEN = fileURLToPath(new URL('../../../shared/golden/', import.meta.url));
export const GOLDEN_MODELS = ['llama', 'llama-rope3', 'qwen2', 'qwen3', 'mistral', 'gemma', 'gpt2'] as const;

/** The parts of golden.json that these tests read. */
export interface GoldenAdapters {
  readonly adapters: Readonly<
    Record<string, { readonly path: string; readonly policy: string; readonly same_as?: string | null }>
  >;
}

export function goldenAdapters(model: string): GoldenAdapters['adapters'] {
  return (JSON.parse(readFileSync(`${GOLDEN}golden/${model}/golden.json`, 'utf8')) as GoldenAdapters).adapters;
}

type Config = Record<string, unknown>;

function module(
  name: string,
  kind: TargetModule['kind'],
  inFeatures: number,
  outFeatures: number,
  more: Partial<TargetModule> = {},
): TargetModule {
  const layer = /\.(?:layers|h)\.(\d+)\./.exec(name);
  return {
    name,
    kind,
    inFeatures,
    outFeatures,
    conv1d: false,
    hasBias: false,
    layer: layer === null ? undefined : Number(layer[1]),
    ...more,
  };
}

function decoderModules(config: Config): TargetModule[] {
  const n = (key: string) => config[key] as number;
  const hidden = n('hidden_size');
  const headDim = (config.head_dim as number | undefined) ?? hidden / n('num_attention_heads');
  const q = headDim * n('num_attention_heads');
  const kv = headDim * n('num_key_value_heads');
  const hasBias = config.model_type === 'qwen2';
  const modules = [module('model.embed_tokens', 'embedding', n('vocab_size'), hidden)];
  for (let i = 0; i < n('num_hidden_layers'); i += 1) {
    const layer = `model.layers.${i}`;
    modules.push(
      module(`${layer}.self_attn.q_proj`, 'linear', hidden, q, { hasBias }),
      module(`${layer}.self_attn.k_proj`, 'linear', hidden, kv, { hasBias }),
      module(`${layer}.self_attn.v_proj`, 'linear', hidden, kv, { hasBias }),
      module(`${layer}.self_attn.o_proj`, 'linear', q, hidden),
    );
    if (config.model_type === 'qwen3') {
      modules.push(
        module(`${layer}.self_attn.q_norm`, 'norm', headDim, headDim),
        module(`${layer}.self_attn.k_norm`, 'norm', headDim, headDim),
      );
    }
    modules.push(
      module(`${layer}.mlp.gate_proj`, 'linear', hidden, n('intermediate_size')),
      module(`${layer}.mlp.up_proj`, 'linear', hidden, n('intermediate_size')),
      module(`${layer}.mlp.down_proj`, 'linear', n('intermediate_size'), hidden),
      module(`${layer}.input_layernorm`, 'norm', hidden, hidden),
      module(`${layer}.post_attention_layernorm`, 'norm', hidden, hidden),
    );
  }
  modules.push(module('model.norm', 'norm', hidden, hidden), module('lm_head', 'linear', hidden, n('vocab_size')));
  return modules;
}

function gpt2Modules(config: Config): TargetModule[] {
  const hidden = config.n_embd as number;
  const vocab = config.vocab_size as number;
  const inner = (config.n_inner as number | null) ?? 4 * hidden;
  const conv = { conv1d: true, hasBias: true };
  const modules = [module('transformer.wte', 'embedding', vocab, hidden)];
  for (let i = 0; i < (config.n_layer as number); i += 1) {
    const layer = `transformer.h.${i}`;
    modules.push(
      module(`${layer}.ln_1`, 'norm', hidden, hidden, { hasBias: true }),
      module(`${layer}.attn.c_attn`, 'linear', hidden, 3 * hidden, conv),
      module(`${layer}.attn.c_proj`, 'linear', hidden, hidden, conv),
      module(`${layer}.ln_2`, 'norm', hidden, hidden, { hasBias: true }),
      module(`${layer}.mlp.c_fc`, 'linear', hidden, inner, conv),
      module(`${layer}.mlp.c_proj`, 'linear', inner, hidden, conv),
    );
  }
  modules.push(
    module('transformer.ln_f', 'norm', hidden, hidden, { hasBias: true }),
    module('lm_head', 'linear', hidden, vocab),
  );
  return modules;
}

/** The base of a golden model; its weights are read when asked for. */
export async function goldenBase(model: string): Promise<AdapterBase> {
  const folder = `${GOLDEN}models/${model}`;
  const config = JSON.parse(await readFile(`${folder}/config.json`, 'utf8')) as Config;
  const isGpt2 = config.model_type === 'gpt2';
  const modules = isGpt2 ? gpt2Modules(config) : decoderModules(config);
  const tied = (config.tie_word_embeddings as boolean | undefined) ?? isGpt2;
  const embeddingModule = isGpt2 ? 'transformer.wte' : 'model.embed_tokens';
  return {
    modelType: config.model_type as string,
    nameOrPath: model,
    aliases: [],
    layerCount: (config.num_hidden_layers ?? config.n_layer) as number,
    vocabSize: config.vocab_size as number,
    tiedHead: tied,
    modules: new Map(modules.map((one) => [one.name, one])),
    embeddingModule,
    headModule: 'lm_head',
    readWeight: async (tensor) => {
      const name = tied && tensor === 'lm_head.weight' ? `${embeddingModule}.weight` : tensor;
      const files = await openSafetensorsSet(folder, 'model', {
        reason: 'MODEL_INVALID',
        maxHeaderBytes: 1_000_000,
        checkPath: async (path) => path,
      });
      try {
        const raw = await files.readRaw(name);
        return toFloat32(raw, files.tensors.get(name)!.dtype as 'F32');
      } finally {
        await files.close();
      }
    },
  };
}
