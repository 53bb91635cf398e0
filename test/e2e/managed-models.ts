/** What tests of models and workflows that come and go have in common. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { GOLDEN } from '../engine/golden-model.js';

export const MODEL = `${GOLDEN}models/llama`;
export const ADAPTERS = `${GOLDEN}adapters/llama`;
export const DEMO = fileURLToPath(new URL('../../models/demo', import.meta.url));
export const MAIN = fileURLToPath(new URL('../../bin/loramux.mjs', import.meta.url));

export const FLAGS = [
  '--log-level',
  'error',
  '--allow-path',
  MODEL,
  '--allow-path',
  ADAPTERS,
  '--model',
  `base=${MODEL}`,
];

export interface Answer {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: answers of every route
  readonly json: any;
}

export async function ask(url: string, method = 'GET', body?: object): Promise<Answer> {
  const response = await fetch(url, {
    method,
    ...(body && { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }),
  });
  return { status: response.status, json: await response.json() };
}

export const query = (fields: Readonly<Record<string, string>>) => new URLSearchParams(fields).toString();

export function scratch(t: TestContext): string {
  const dir = mkdtempSync(path.join(tmpdir(), 'loramux-models-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** Names of the models that stand for the engines that run. */
export async function engines(url: string): Promise<string[]> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return [...text.matchAll(/^loramux_engine_up\{model="([^"]+)"\} 1$/gm)].map(([, name]) => name!);
}

export const short = { parameters: { max_new_tokens: 6 } };
