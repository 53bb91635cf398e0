/** The base model as adapters see it: every module that PEFT can name, with its shape, and its weights on request. */
import type { AdapterBase, TargetModule } from '../adapters/types.js';
import type { ModelFolder } from './model-folder.js';
import { allLinears, allNorms } from './spec.js';

/** Builds the table that adapter binding works with. Module order is that of the model code. */
export function adapterBaseOf(folder: ModelFolder, servedAs?: string): AdapterBase {
  const { spec, checkpoint } = folder;
  const modules = new Map<string, TargetModule>();
  const add = (module: Omit<TargetModule, 'layer'>) => {
    const layer = /\.(?:layers|h)\.(\d+)\./.exec(module.name)?.[1];
    modules.set(module.name, { ...module, layer: layer === undefined ? undefined : Number(layer) });
  };
  const { embedding } = spec;
  const tables: [name: string, rows: number][] = [[embedding.module, spec.vocabSize]];
  if (embedding.positions !== undefined) {
    const { module, first = 0 } = embedding.positions;
    tables.push([module, first + spec.contextLength]);
  }
  for (const [name, rows] of tables) {
    add({ name, kind: 'embedding', inFeatures: rows, outFeatures: spec.hiddenSize, conv1d: false, hasBias: false });
  }
  for (const linear of allLinears(spec)) {
    const { module, inFeatures, outFeatures, conv1d = false } = linear;
    add({ name: module, kind: 'linear', inFeatures, outFeatures, conv1d, hasBias: linear.bias !== undefined });
  }
  for (const norm of allNorms(spec)) {
    add({
      name: norm.module,
      kind: 'norm',
      inFeatures: norm.width,
      outFeatures: norm.width,
      conv1d: false,
      hasBias: norm.bias !== undefined,
    });
  }
  // A tied table has two names, of which the files may have either.
  const stored = new Map([
    [`${embedding.module}.weight`, embedding.weight],
    [`${spec.head.linear.module}.weight`, spec.head.linear.weight],
  ]);
  return {
    modelType: spec.modelType,
    nameOrPath: folder.nameOrPath,
    aliases: [folder.dir, ...(servedAs === undefined ? [] : [servedAs])],
    layerCount: spec.layers.length,
    vocabSize: spec.vocabSize,
    headDim: spec.headDim,
    tiedHead: spec.head.tied,
    headApart: spec.head.apart,
    modules,
    embeddingModule: embedding.module,
    headModule: spec.head.linear.module,
    readWeight: (tensor) => checkpoint.readFloat32(stored.get(tensor) ?? tensor),
  };
}
