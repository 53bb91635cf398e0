/** The engine in this process, without threads, HTTP or service around it: what a step costs, and nothing else. */
import { readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { prepareAdapter } from '../server/adapters/prepare-adapter.js';
import type { BoundAdapter } from '../server/adapters/types.js';
import type { Dtype } from '../server/engine/decoder-session.js';
import { EngineLoop } from '../server/engine/engine-loop.js';
import { SUPPORTED_FEATURES } from '../server/engine/features.js';
import { openBackend } from '../server/engine/open-backend.js';
import { packWeights } from '../server/engine/pack-thread.js';
import { mergeInto } from '../server/model/merge.js';
import { type ModelFolder, openModelFolder } from '../server/model/model-folder.js';
import { adapterBaseOf } from '../server/model/module-table.js';
import type { DecoderSpec } from '../server/model/spec.js';
import { loadTokenizer } from '../server/text/hf-tokenizer.js';
import { GREEDY } from './greedy.js';

/** One generation: prompt ids, and the digest of its adapter or undefined for the base. */
export interface LocalRow {
  readonly promptIds: readonly number[];
  readonly digest: string | undefined;
}

/** What a load of rows took. Times in milliseconds. */
export interface LocalResult {
  readonly rows: number;
  readonly tokens: number;
  readonly totalMs: number;
  readonly tokensPerSecond: number;
  /** Of steps that decoded all rows of the load. */
  readonly decodeP50: number;
  readonly decodeMin: number;
  /** Processor time of such a step, all threads together: steadier than the clock where other processes run. */
  readonly decodeCpu: number;
  /** Sum of all prefill steps divided by rows. */
  readonly prefillMs: number;
}

/** An engine whose rows run to their last token, all submitted at once. */
export interface LocalEngine {
  readonly digests: ReadonlyMap<string, string>;
  readonly adapterBytes: ReadonlyMap<string, number>;
  readonly spec: DecoderSpec;
  encode(text: string): readonly number[];
  load(adapter: BoundAdapter): Promise<void>;
  generate(rows: readonly LocalRow[], maxNewTokens: number): Promise<LocalResult>;
  close(): Promise<void>;
}

/** Names of the adapter folders below `folder`, in natural order (a2 before a10). */
export async function adapterNames(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true });
  const names = entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
  return names.sort((x, y) => x.localeCompare(y, 'en', { numeric: true }));
}

/** Folders of adapters below one folder. */
export interface NamedAdapters {
  readonly folder: string;
  readonly names: readonly string[];
}

/** Reads an adapter for a model, with all features that the engine has. */
export async function readAdapter(model: ModelFolder, folder: string): Promise<BoundAdapter> {
  const path = resolve(folder);
  const request = { folder: path, roots: [path], supportedFeatures: SUPPORTED_FEATURES };
  return (await prepareAdapter(request, adapterBaseOf(model))).adapter;
}

/** Opens a model with the adapters of these names. */
export async function openLocalEngine(options: {
  readonly model: string;
  readonly dtype: Dtype;
  readonly threads: number;
  readonly adapters?: NamedAdapters | undefined;
  /** Merged into the weights, each with weight 1; a merged model takes no adapters. */
  readonly merge?: NamedAdapters | undefined;
}): Promise<LocalEngine> {
  const opened = await openModelFolder(options.model);
  const read = async ({ folder, names }: NamedAdapters): Promise<BoundAdapter[]> => {
    const adapters: BoundAdapter[] = [];
    for (const name of names) {
      adapters.push(await readAdapter(opened, join(folder, name)));
    }
    return adapters;
  };
  const parts = options.merge === undefined ? [] : await read(options.merge);
  const folder =
    parts.length === 0
      ? opened
      : await mergeInto(
          opened,
          parts.map((adapter) => ({ adapter, weight: 1 })),
        );
  const { dtype, threads } = options;
  const cacheDir = join(tmpdir(), 'loramux-bench-weights');
  const backend = await openBackend(folder, { dtype, threads, lora: options.adapters !== undefined, cacheDir });
  // As a server that has run for a while: sessions share packed weights, and all graphs are open.
  if (backend.kept?.shared === false)
    await packWeights({ modelDir: options.model, cacheDir, known: backend.kept.file });
  while (await backend.openAhead?.()) {}
  const engine = new EngineLoop(backend, { maxBatch: 64, prefillChunk: 512, maxPositions: 1 << 20 });
  const digests = new Map<string, string>();
  const adapterBytes = new Map<string, number>();
  const names = options.adapters?.names ?? [];
  for (const [i, adapter] of (options.adapters === undefined ? [] : await read(options.adapters)).entries()) {
    const name = names[i]!;
    await engine.load(adapter);
    digests.set(name, adapter.digest);
    adapterBytes.set(name, adapter.bytes);
  }
  const tokenizer = await loadTokenizer(folder.dir);
  let nextId = 0;
  return {
    digests,
    adapterBytes,
    encode: (text) => tokenizer.encode(text, true),
    spec: folder.spec,
    load: (adapter) => engine.load(adapter),
    close: () => folder.close(),
    generate: async (rows, maxNewTokens) => {
      for (const { promptIds, digest } of rows) {
        const ended = engine.submit({
          id: nextId++,
          promptIds,
          selection: digest === undefined ? [] : [{ digest, weight: 1 }],
          sampling: GREEDY,
          maxNewTokens,
          endIds: [],
          submittedAt: 0,
        });
        if (ended !== undefined) throw new Error(ended.message);
      }
      const decodes: number[] = [];
      const cpu: number[] = [];
      let prefillMs = 0;
      const start = performance.now();
      while (engine.busy) {
        const before = engine.stats();
        const from = performance.now();
        const cpuFrom = process.cpuUsage();
        const { ends } = await engine.step();
        const took = performance.now() - from;
        const used = process.cpuUsage(cpuFrom);
        const failed = ends.find(({ cause }) => cause === 'error');
        if (failed !== undefined) throw new Error(failed.message);
        const after = engine.stats();
        if (after.decodeTokens - before.decodeTokens === rows.length) {
          decodes.push(took);
          cpu.push((used.user + used.system) / 1000);
        }
        if (after.prefillSteps > before.prefillSteps && after.decodeSteps === before.decodeSteps) prefillMs += took;
      }
      const totalMs = performance.now() - start;
      const tokens = rows.length * maxNewTokens;
      decodes.sort((x, y) => x - y);
      cpu.sort((x, y) => x - y);
      return {
        rows: rows.length,
        tokens,
        totalMs,
        tokensPerSecond: (tokens / totalMs) * 1000,
        decodeP50: decodes[decodes.length >> 1] ?? Number.NaN,
        decodeMin: decodes[0] ?? Number.NaN,
        decodeCpu: cpu[cpu.length >> 1] ?? Number.NaN,
        prefillMs: prefillMs / rows.length,
      };
    },
  };
}

const WORDS =
  'time river stone light garden winter paper engine music valley story window market silver bridge letter forest morning captain island'.split(
    ' ',
  );

/** A prompt of about `words` words that shares its beginning with no other number's. */
export function story(number: number, words: number): string {
  let state = (number * 2654435761) >>> 0;
  let text = `Story ${number}: `;
  for (let i = 0; i < words; i += 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    text += `${WORDS[state % WORDS.length]} `;
  }
  return text;
}
