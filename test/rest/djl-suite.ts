/** Runs the recorded cases of DJL Serving against a server, with everything laid out that they ask for. */
import { spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';

const shared = fileURLToPath(new URL('../../../shared/', import.meta.url));
const suite = path.join(shared, 'conformance/djl');

/** Adapters of the golden llama model. */
export const ADAPTERS = path.join(shared, 'golden/adapters/llama');
/** The golden llama model. */
export const MODEL = path.join(shared, 'golden/models/llama');

/** Model folders in a scratch folder: `base` with two adapters, `nolora` without LoRA, `spare` for workflows. */
export interface Scratch {
  readonly dir: string;
  readonly variables: Readonly<Record<string, string>>;
}

/** Lays the folders out; they go with the test. */
export function scratch(t: TestContext): Scratch {
  const dir = mkdtempSync(path.join(tmpdir(), 'loramux-djl-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const folder = (name: string, properties: string) => {
    mkdirSync(path.join(dir, name), { recursive: true });
    writeFileSync(path.join(dir, name, 'serving.properties'), `option.model_id=${MODEL}\n${properties}`);
  };
  folder('base', 'option.enable_lora=true\n');
  folder('nolora', 'option.enable_lora=false\n');
  folder('spare', 'option.enable_lora=true\n');
  for (const name of ['rslora', 'all-r8']) {
    cpSync(path.join(ADAPTERS, name), path.join(dir, 'base/adapters', name), { recursive: true });
  }
  mkdirSync(path.join(dir, 'no-adapter'));
  const sources = ['qv-r4', 'mlp-r16', 'att-r1', 'all-r8-b', 'patterns'];
  const variables = {
    MODEL: 'base',
    MODEL_NOLORA: 'nolora',
    MODEL_URL: `file:${path.join(dir, 'spare')}`,
    MODEL_URL2: `file:${path.join(dir, 'nolora')}`,
    D1: 'rslora',
    D2: 'all-r8',
    ...Object.fromEntries(sources.map((name, at) => [`SRC${at + 1}`, path.join(ADAPTERS, name)])),
    BAD_SRC: path.join(ADAPTERS, 'no-such-folder'),
    NOCFG_SRC: path.join(dir, 'no-adapter'),
  };
  return { dir, variables };
}

/** What a run of the suite came to: ids of cases. */
export interface Outcome {
  readonly passed: ReadonlySet<string>;
  readonly failed: readonly string[];
  readonly skipped: readonly string[];
  /** Everything that the suite printed. */
  readonly output: string;
}

/** What a run is to do. */
export interface RunOptions {
  readonly url: string;
  readonly have: string;
  readonly variables: Readonly<Record<string, string>>;
  /** Ids to run, as a regular expression; absent = all. */
  readonly only?: string;
}

/** Runs the open cases. */
export async function runSuite({ dir }: Scratch, options: RunOptions): Promise<Outcome> {
  const report = path.join(dir, `report-${Math.random()}.json`);
  const output = await run([
    path.join(suite, 'suite.mjs'),
    ...['--base', options.url, '--cases', path.join(suite, 'open.json'), '--json', report],
    ...['--have', options.have, '--verbose'],
    ...(options.only === undefined ? [] : ['--only', options.only]),
    ...Object.entries(options.variables).flatMap(([name, value]) => ['--var', `${name}=${value}`]),
  ]);
  const outcome = JSON.parse(readFileSync(report, 'utf8')) as Record<string, string[]>;
  return {
    passed: new Set([...outcome.pass!, ...outcome.deviate_passed!]),
    failed: [...outcome.fail!, ...outcome.deviate_failed!],
    skipped: outcome.skip!,
    output,
  };
}

/** Writes the workflow files that cases refer to; returns their folder. */
export async function renderWorkflows({ dir, variables }: Scratch): Promise<string> {
  const target = path.join(dir, 'workflows');
  await run([
    path.join(suite, 'suite.mjs'),
    ...['--render', target, '--render-only'],
    ...Object.entries(variables).flatMap(([name, value]) => ['--var', `${name}=${value}`]),
  ]);
  return target;
}

function run(args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (data) => {
        output += data;
      });
    }
    child.on('error', reject);
    // The suite ends with 1 when any case fails; the report says which.
    child.on('exit', () => resolve(output));
  });
}
