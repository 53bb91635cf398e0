/** One of the fixtures that tools/fixtures/make_families.py makes: a tiny model, its adapters, and PyTorch's answers. */
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { flattenReplaced } from '../../server/adapters/flatten.js';
import { readAdapterFolder } from '../../server/adapters/read-adapter.js';
import { openSafetensors } from '../../server/adapters/safetensors.js';
import type { BoundAdapter } from '../../server/adapters/types.js';
import { openModelFolder } from '../../server/model/model-folder.js';
import { adapterBaseOf } from '../../server/model/module-table.js';

const ROOT = fileURLToPath(new URL('../fixtures/families/', import.meta.url));

/** All fixtures, by folder. */
export const FAMILY_FIXTURES: readonly string[] = readdirSync(ROOT);

/** What logits may differ by from PyTorch's. */
export const TOLERANCE = 2e-4;

/** Greedy continuations are compared where PyTorch's own choice was clear. */
export const CLEAR_MARGIN = 2e-3;

export interface FamilyAnswer {
  /** Of a sequence as long as the prompt. */
  readonly logits: string;
  /** Of the prompt in a sequence as long as the row's horizon, where the rotary table depends on that. */
  readonly horizon_logits?: string;
  readonly greedy: number[];
  readonly greedy_min_margin: number;
}

interface Expected {
  readonly prompts: Record<string, number[]>;
  /** By adapter (or `base`) and prompt. */
  readonly answers: Record<string, Record<string, FamilyAnswer>>;
}

/** Opens one. */
export async function openFamily(name: string) {
  const dir = `${ROOT}${name}`;
  const expected = JSON.parse(readFileSync(`${dir}/expected.json`, 'utf8')) as Expected;
  const tensors = await openSafetensors(`${dir}/expected.safetensors`);
  const folder = await openModelFolder(dir);
  const base = adapterBaseOf(folder);
  return {
    expected,
    folder,
    /** Logits by their name in an answer. */
    logits: (tensor: string): Promise<Float32Array> => tensors.readFloat32(tensor),
    /** An adapter of the fixture; undefined for `base`. */
    bind: async (adapter: string): Promise<BoundAdapter | undefined> =>
      adapter === 'base'
        ? undefined
        : flattenReplaced(await readAdapterFolder(`${dir}/adapters/${adapter}`, base), base),
    close: async () => {
      await tensors.close();
      await folder.close();
    },
  };
}

/** The largest difference of two lists of one length; infinite where a number is none. */
export function worst(a: Float32Array, b: Float32Array): number {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY;
  return a.reduce(
    (most, value, i) => Math.max(most, Number.isNaN(value) ? Number.POSITIVE_INFINITY : Math.abs(value - b[i]!)),
    0,
  );
}
