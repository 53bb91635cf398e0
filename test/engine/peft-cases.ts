/**
 * Adapters as PEFT writes them that change more than layers (see tools/fixtures/make_peft_cases.py), for any backend: what
 * PyTorch computes for every case alone, and for all cases and base rows in one queue of one engine.
 */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { GREEDY } from '../../bench/greedy.js';
import { flattenReplaced } from '../../server/adapters/flatten.js';
import { readAdapterFolder } from '../../server/adapters/read-adapter.js';
import type { AdapterBase, BoundAdapter } from '../../server/adapters/types.js';
import type { StepBackend } from '../../server/engine/backend.js';
import { EngineLoop } from '../../server/engine/engine-loop.js';
import { SUPPORTED_FEATURES } from '../../server/engine/features.js';
import { logSumExp } from '../../server/engine/logits-logprobs.js';
import type { TokenEvent } from '../../server/engine/messages.js';
import { mergeInto } from '../../server/model/merge.js';
import { type ModelFolder, openModelFolder } from '../../server/model/model-folder.js';
import { adapterBaseOf } from '../../server/model/module-table.js';
import { GOLDEN } from './golden-model.js';

const ROOT = fileURLToPath(new URL('../fixtures/peft-cases/', import.meta.url));
const FAMILIES = fileURLToPath(new URL('../fixtures/families/', import.meta.url));
const TOLERANCE = 3e-4;

interface Prompt {
  readonly ids: number[];
  /** Of the first two new tokens. */
  readonly logits: number[][];
  readonly greedy: number[];
  readonly greedy_min_margin: number;
}

interface Case {
  readonly name: string;
  readonly model: string;
  readonly vocab: number;
  readonly prompts: Prompt[];
  /** Logits of each prompt's last position after PEFT's merge_and_unload; absent where that mixes up tied tables. */
  readonly merged?: number[][];
}

const cases = readdirSync(ROOT).map(
  (name): Case => ({ name, ...JSON.parse(readFileSync(`${ROOT}${name}/expected.json`, 'utf8')) }),
);

async function bind(name: string, base: AdapterBase): Promise<BoundAdapter> {
  return flattenReplaced(await readAdapterFolder(`${ROOT}${name}`, base), base);
}

/** What runs the cases. */
export interface CaseBackend {
  /** Reason to skip all of it; false = it runs. */
  readonly skip?: string | false;
  /** Models whose cases run; absent = all. */
  readonly models?: readonly string[];
  open(folder: ModelFolder): Promise<StepBackend>;
  /** True: adapters are merged and run as well. */
  readonly merged?: boolean;
  /** Gets each case's test to run, to remember what was supported. */
  note?(modelType: string, features: readonly string[], run: () => Promise<void>): Promise<void>;
}

/** Registers the tests of all cases. */
export function testPeftCases(title: string, backend: CaseBackend): void {
  const { skip = false, models, open, note = (_, __, run) => run() } = backend;
  for (const model of new Set(cases.map((one) => one.model))) {
    if (models?.includes(model) === false) continue;
    const golden = `${GOLDEN}models/${model}`;
    describe(`cases of ${model} ${title}`, { skip }, () => {
      let folder: ModelFolder;
      let runner: StepBackend;
      let base: AdapterBase;
      before(async () => {
        folder = await openModelFolder(existsSync(golden) ? golden : `${FAMILIES}${model}`);
        runner = await open(folder);
        base = adapterBaseOf(folder);
      });
      after(async () => {
        await runner.close();
        await folder.close();
      });
      const own = cases.filter((one) => one.model === model);

      /** The tokens of rows that run together, by row; all logits are asked for. */
      const run = async (rows: readonly { ids: number[]; adapter?: BoundAdapter; tokens: number }[], on = runner) => {
        const loop = new EngineLoop(on, { maxBatch: 16, prefillChunk: 4, maxPositions: 4096 });
        for (const { adapter } of rows) if (adapter !== undefined) await loop.load(adapter);
        const events: TokenEvent[][] = rows.map(() => []);
        for (const [id, { ids, adapter, tokens }] of rows.entries()) {
          const sampling = { ...GREEDY, logprobs: 4096 };
          const selection = adapter === undefined ? [] : [{ digest: adapter.digest, weight: 1 }];
          loop.submit({ id, promptIds: ids, selection, sampling, maxNewTokens: tokens, endIds: [], submittedAt: 0 });
        }
        while (loop.busy) {
          const { tokens, ends } = await loop.step();
          for (const event of tokens) events[event.id]!.push(event);
          for (const { cause, message } of ends) assert.notEqual(cause, 'error', message);
        }
        return events;
      };

      for (const { name, vocab, prompts } of own) {
        test(`${name}: logits and greedy tokens of PyTorch`, async () => {
          const adapter = await bind(name, base);
          const unknown = adapter.features.filter((feature) => !SUPPORTED_FEATURES.has(feature));
          assert.deepEqual(unknown, []);
          await note(folder.spec.modelType, adapter.features, async () => {
            const events = await run(prompts.map(({ ids, greedy }) => ({ ids, adapter, tokens: greedy.length })));
            for (const [at, { logits, greedy, greedy_min_margin }] of prompts.entries()) {
              assert.ok(
                greedy_min_margin > 10 * TOLERANCE || greedy_min_margin > 0.002,
                'the fixture tells tokens apart',
              );
              assert.deepEqual(
                events[at]!.map(({ token }) => token),
                greedy,
              );
              for (const [step, wanted] of logits.entries()) {
                const norm = logSumExp(Float32Array.from(wanted));
                const { top } = events[at]![step]!;
                assert.equal(top!.length, vocab);
                for (const { id, logprob } of top!) {
                  const difference = Math.abs(logprob - (wanted[id]! - norm));
                  assert.ok(difference <= TOLERANCE, `prompt ${at}, step ${step}, id ${id}: ${difference}`);
                }
              }
            }
          });
        });
      }

      for (const { name, vocab, prompts, merged } of own.filter(
        (one) => backend.merged === true && one.merged !== undefined,
      )) {
        test(`${name}: merged equals merge_and_unload`, async () => {
          const whole = await mergeInto(folder, [{ adapter: await bind(name, base), weight: 1 }]);
          assert.equal(whole.spec.vocabSize, vocab);
          const events = await run(
            prompts.map(({ ids }) => ({ ids, tokens: 1 })),
            await open(whole),
          );
          for (const [at, wanted] of merged!.entries()) {
            const norm = logSumExp(Float32Array.from(wanted));
            for (const { id, logprob } of events[at]![0]!.top!) {
              assert.ok(Math.abs(logprob - (wanted[id]! - norm)) <= TOLERANCE, `prompt ${at}, id ${id}`);
            }
          }
        });
      }

      test('all cases and base rows together: each row has its own', async () => {
        const adapters = new Map<string, BoundAdapter>();
        for (const { name } of own) adapters.set(name, await bind(name, base));
        const plain = own[0]!.prompts[0]!.ids;
        const [alone] = await run([{ ids: plain, tokens: 6 }]);
        const rows = own.flatMap(({ name, prompts }) => prompts.map((prompt) => ({ ...prompt, name })));
        const events = await run([
          { ids: plain, tokens: 6 },
          ...rows.map(({ ids, name, greedy }) => ({ ids, adapter: adapters.get(name)!, tokens: greedy.length })),
          { ids: plain, tokens: 6 },
        ]);
        for (const at of [0, events.length - 1]) {
          assert.deepEqual(
            events[at]!.map(({ token }) => token),
            alone!.map(({ token }) => token),
          );
          for (const { top } of events[at]!) assert.equal(top!.length, folder.spec.vocabSize);
        }
        for (const [at, { greedy, name }] of rows.entries()) {
          assert.deepEqual(
            events[at + 1]!.map(({ token }) => token),
            greedy,
            name,
          );
        }
      });
    });
  }
}
