/**
 * LoRA adapters in llama.cpp's GGUF form (`convert_lora_to_gguf.py`), put into PEFT's terms: names, orientation and rows
 * as in the adapter that it was made from. What comes out goes the same way as a PEFT folder, so every rule of binding
 * holds for it too.
 */
import { join } from 'node:path';
import { AppError } from '../../errors.js';
import { Faults } from '../faults.js';
import { fileCalls } from '../file-calls.js';
import type { PeftConfig } from '../peft-config.js';
import type { TensorInfo } from '../safetensors.js';
import type { SafetensorsSet } from '../safetensors-set.js';
import { passBytes } from '../tensor-windows.js';
import { transpose } from '../transpose.js';
import type { AdapterBase, TargetModule } from '../types.js';
import { ARCHITECTURES, type GgufArchitecture } from './architectures.js';
import { READABLE_TYPES } from './dequantise.js';
import { type GgufFile, openGguf } from './gguf-file.js';
import type { GgufTensor } from './gguf-header.js';
import { undoRopeRows } from './rope-rows.js';
import { namedTensors } from './tensor-names.js';

/** Longest header of an adapter, in bytes. */
const MAX_HEADER_BYTES = 32 * 1024 * 1024;

/** An adapter's tensors under PEFT's names, and the config that PEFT would have. */
export interface GgufAdapter {
  readonly files: SafetensorsSet;
  readonly config: PeftConfig;
}

/** One tensor of the file and what it is in PEFT's terms. */
interface Part {
  readonly tensor: GgufTensor;
  readonly module: TargetModule;
  readonly isA: boolean;
  readonly ropeRows: boolean;
}

/**
 * The GGUF adapter that a source names: the file itself, or a folder's only .gguf file where there is no
 * adapter_config.json. Undefined for anything else.
 */
export async function findGgufAdapter(source: string): Promise<string | undefined> {
  const found = await fileCalls().find(source);
  if (found?.isFile()) return source.endsWith('.gguf') ? source : undefined;
  if (!found?.isDirectory()) return undefined;
  const names = await fileCalls().readdir(source);
  const files = names.filter((name) => name.endsWith('.gguf'));
  if (files.length === 0 || names.includes('adapter_config.json')) return undefined;
  if (files.length > 1) {
    throw new AppError(
      'ADAPTER_SOURCE_INVALID',
      `${JSON.stringify(source)} holds several adapters (${files.sort().slice(0, 20).join(', ')}); name one of them`,
    );
  }
  return join(source, files[0]!);
}

/**
 * Opens an adapter for a base.
 * @throws AppError ADAPTER_INVALID or ADAPTER_UNSUPPORTED that lists what is wrong
 */
export async function openGgufAdapter(path: string, base: AdapterBase): Promise<GgufAdapter> {
  const file = await openGguf(path, { reason: 'ADAPTER_INVALID', maxHeaderBytes: MAX_HEADER_BYTES });
  try {
    return describe(file, base);
  } catch (error) {
    await file.close();
    throw error;
  }
}

function describe(file: GgufFile, base: AdapterBase): GgufAdapter {
  const architecture = checkKind(file, base);
  const faults = new Faults();
  const parts = new Map<string, Part>();
  for (const tensor of file.tensors.values()) {
    const part = partOf(tensor, architecture, base);
    const what = `${file.label}: tensor ${JSON.stringify(tensor.name)}`;
    if (typeof part === 'string') faults.add(`${what}: ${part}`);
    else if (!READABLE_TYPES.includes(tensor.type.name)) {
      faults.addUnsupported(`${what}: stored as ${tensor.type.name}; ${READABLE_TYPES.join(', ')} are read`);
    } else parts.set(peftName(part), part);
  }
  const ranks = ranksOf(file, parts, faults);
  faults.check();
  return { files: tensorSet(file, parts, base), config: configOf(file, ranks) };
}

/** Checks that the file is a LoRA for this kind of base. */
function checkKind(file: GgufFile, base: AdapterBase): GgufArchitecture {
  const { metadata } = file;
  const kind = metadata.get('general.type');
  if (kind !== 'adapter') {
    throw file.fail(`general.type is ${JSON.stringify(kind ?? null)}; "adapter" would be right`);
  }
  const type = metadata.get('adapter.type');
  if (type !== 'lora') {
    throw new AppError(
      'ADAPTER_UNSUPPORTED',
      `${file.label}: adapter.type is ${JSON.stringify(type ?? null)}; only "lora" is supported`,
    );
  }
  const name = metadata.get('general.architecture');
  const architecture = typeof name === 'string' ? ARCHITECTURES.get(name) : undefined;
  if (architecture === undefined) {
    throw new AppError(
      'ADAPTER_UNSUPPORTED',
      `${file.label}: architecture ${JSON.stringify(name ?? null)}; adapters are read for ${[...ARCHITECTURES.keys()].join(', ')}`,
    );
  }
  if (!architecture.modelTypes.includes(base.modelType)) {
    throw file.fail(`the adapter is for architecture ${architecture.name}, the base is of type ${base.modelType}`);
  }
  return architecture;
}

function partOf(tensor: GgufTensor, architecture: GgufArchitecture, base: AdapterBase): Part | string {
  const split = /^(.*)\.lora_([ab])$/.exec(tensor.name);
  if (split === null) return 'it is no .lora_a or .lora_b tensor, and nothing else can be applied';
  const [named] = namedTensors(split[1]!, architecture);
  if (named === undefined || named.part !== 'weight') return `there is no weight ${split[1]} in such a model`;
  if (named.piece !== undefined || named.change === 'transposed')
    return `llama.cpp stores ${split[1]} in a form of its own, in which no adapter is read; use the PEFT folder`;
  const module = base.modules.get(named.module);
  if (module === undefined) return `the base has no module ${named.module}`;
  if (module.kind === 'norm') return `${named.module} is a norm, which cannot have low-rank matrices`;
  if (tensor.shape.length !== 2) return `it has ${tensor.shape.length} dimensions; 2 would be right`;
  const isA = split[2] === 'a';
  const ropeRows = named.change === 'rope rows' && !isA;
  if (ropeRows && (base.headDim === undefined || tensor.shape[0]! % base.headDim !== 0)) {
    return `its ${tensor.shape[0]} rows are no whole heads of ${base.headDim}`;
  }
  return { tensor, module, isA, ropeRows };
}

function peftName({ module, isA }: Pick<Part, 'module' | 'isA'>): string {
  const which = isA ? 'A' : 'B';
  const part = module.kind === 'embedding' ? `lora_embedding_${which}` : `lora_${which}.weight`;
  return `base_model.model.${module.name}.${part}`;
}

/** Shape in PEFT's orientation: llama.cpp stores the A of an embedding transposed. */
function peftShape({ tensor, module, isA }: Part): readonly number[] {
  return module.kind === 'embedding' && isA ? [...tensor.shape].reverse() : tensor.shape;
}

/** Rank by module; both matrices must be there and agree. */
function ranksOf(file: GgufFile, parts: ReadonlyMap<string, Part>, faults: Faults): Map<string, number> {
  const ranks = new Map<string, number>();
  for (const part of parts.values()) {
    const other = parts.get(peftName({ module: part.module, isA: !part.isA }));
    const label = `${file.label}: tensor ${JSON.stringify(part.tensor.name)}`;
    if (other === undefined) {
      faults.add(`${label}: its counterpart .lora_${part.isA ? 'b' : 'a'} is missing`);
    } else if (part.isA) {
      const rank = peftShape(part)[0]!;
      if (peftShape(other)[1] !== rank) {
        faults.add(`${label}: rank ${rank}, but .lora_b has rank ${peftShape(other)[1]}`);
      }
      if (rank > 65_536) faults.add(`${label}: rank ${rank}; at most 65536 is supported`);
      ranks.set(part.module.name, rank);
    }
  }
  if (ranks.size === 0 && faults.count === 0) faults.add(`${file.label}: the file holds no tensors`);
  return ranks;
}

/** llama.cpp scales by alpha / rank of each tensor, and not at all where alpha is 0 or missing. */
function configOf(file: GgufFile, ranks: ReadonlyMap<string, number>): PeftConfig {
  const alpha = file.metadata.get('adapter.lora.alpha') ?? 0;
  if (typeof alpha !== 'number' || !Number.isFinite(alpha)) {
    throw file.fail(`adapter.lora.alpha is ${JSON.stringify(alpha)}; a number would be right`);
  }
  const r = ranks.values().next().value!;
  const odd = [...ranks].filter(([, rank]) => rank !== r);
  const pattern = odd.map(([module, rank]) => [module.replaceAll('.', '\\.'), rank] as const);
  return {
    r,
    loraAlpha: alpha === 0 ? r : alpha,
    rankPattern: pattern,
    alphaPattern: alpha === 0 ? pattern : [],
    targetModules: [...ranks.keys()],
    invocationTokens: invocationTokens(file),
    baseModel: baseModelOf(file),
    useRslora: false,
    useDora: false,
    loraBias: false,
    bias: 'none',
    excludeModules: null,
    layersToTransform: null,
    layersPattern: [],
    modulesToSave: [],
    trainableTokens: [],
    fanInFanOut: false,
    ensureWeightTying: false,
  };
}

function invocationTokens(file: GgufFile): readonly number[] | null {
  const tokens = file.metadata.get('adapter.alora.invocation_tokens');
  if (tokens === undefined) return null;
  if (!(tokens instanceof Uint32Array || tokens instanceof Int32Array) || tokens.length === 0) {
    throw file.fail('adapter.alora.invocation_tokens is no list of token ids');
  }
  return [...tokens];
}

/** The repository that the base came from; its display name is not comparable. */
function baseModelOf({ metadata }: GgufFile): string {
  const repository = metadata.get('general.base_model.0.repo_url');
  return typeof repository === 'string' ? repository : '';
}

function tensorSet(file: GgufFile, parts: ReadonlyMap<string, Part>, base: AdapterBase): SafetensorsSet {
  const tensors = new Map<string, TensorInfo & { label: string }>();
  for (const [name, part] of parts) {
    const shape = peftShape(part);
    const bytes = 4 * shape[0]! * shape[1]!;
    tensors.set(name, { name, dtype: 'F32', shape, offset: part.tensor.offset, bytes, label: file.label });
  }
  const readRaw = async (name: string) => {
    const part = parts.get(name);
    if (part === undefined) throw file.fail(`there is no tensor ${JSON.stringify(name)}`);
    const [rows, columns] = part.tensor.shape as [number, number];
    let values = await file.readFloat32(part.tensor.name);
    if (part.ropeRows) values = undoRopeRows(values, rows, base.headDim!);
    if (part.module.kind === 'embedding' && part.isA) values = transpose(values, rows, columns, 1);
    return Buffer.from(values.buffer, values.byteOffset, values.byteLength);
  };
  return {
    tensors,
    readRaw,
    pass: async function* (names, windows) {
      for (const name of names) yield* passBytes(name, await readRaw(name), windows);
    },
    close: () => file.close(),
  };
}
