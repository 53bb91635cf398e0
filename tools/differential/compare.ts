/**
 * Runs the engine over what make.py wrote: every model, every adapter and prompt, all rows of a model in one queue, and
 * compares the distributions at every position with PyTorch's.
 *
 * Usage: npx tsx tools/differential/compare.ts FOLDER
 * Prints what differs, what is refused and why, and counts; ends with status 1 when anything differs.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { flattenReplaced } from '../../server/adapters/flatten.js';
import { readAdapterFolder } from '../../server/adapters/read-adapter.js';
import { openSafetensors, type SafetensorsFile } from '../../server/adapters/safetensors.js';
import { SessionFactory } from '../../server/engine/decoder-session.js';
import { EmbeddingTable } from '../../server/engine/embedding-table.js';
import { EngineLoop } from '../../server/engine/engine-loop.js';
import { logSumExp } from '../../server/engine/logits-logprobs.js';
import type { PromptEvent, RowRequest, TokenEvent } from '../../server/engine/messages.js';
import { StepRunner } from '../../server/engine/step-runner.js';
import { openModelFolder } from '../../server/model/model-folder.js';
import { adapterBaseOf } from '../../server/model/module-table.js';

/** Largest difference of a log-probability that counts as equal, for logits up to 10 in size; larger ones scale it. */
const TOLERANCE = 3e-4;

interface Case {
  readonly features: readonly string[];
  readonly prompts: readonly (readonly number[])[];
  /** Ids that the adapter knows, where that is not the model's number. */
  readonly vocab?: number;
  /** Of a mixture: the adapters and their weights. */
  readonly parts?: readonly (readonly [name: string, weight: number])[];
}

interface Row {
  readonly name: string;
  readonly prompt: number;
  readonly ids: readonly number[];
  readonly prompts: PromptEvent[];
  readonly tokens: TokenEvent[];
  error?: string | undefined;
}

const counts = { models: 0, adapters: 0, rows: 0, equal: 0, differ: 0 };
const refusals = new Map<string, number>();
const worst = { value: 0, where: '' };

function refused(what: string, thrown: unknown): void {
  const { message } = thrown as Error;
  const why = `${what}: ${message
    .replace(/"[^"]*"/g, '"..."')
    .replace(/\d+/g, 'N')
    .slice(0, 220)}`;
  refusals.set(why, (refusals.get(why) ?? 0) + 1);
  if (process.env.VERBOSE) console.log(`${what} refused: ${message}`);
}

async function compareModel(dir: string): Promise<void> {
  const { cases } = JSON.parse(readFileSync(join(dir, 'cases.json'), 'utf8')) as { cases: Record<string, Case> };
  const folder = await openModelFolder(dir).catch((thrown) => refused(`model ${dir.replace(/.*-/, '')}`, thrown));
  if (folder === undefined) return;
  counts.models += 1;
  const factory = await SessionFactory.create(folder, 'fp32');
  const runner = new StepRunner(folder.spec, await EmbeddingTable.read(folder), []);
  for (const variant of ['base', 'lora', 'full'] as const) runner.addSession(await factory.open(variant, 1));
  const base = adapterBaseOf(folder);
  const { vocabSize } = folder.spec;
  const engine = new EngineLoop(runner, { maxBatch: 8, prefillChunk: 7, maxPositions: 100_000 });
  const rows: Row[] = [];
  const digests = new Map<string, string>();
  const all = Math.max(vocabSize, ...Object.values(cases).map(({ vocab = 0 }) => vocab));
  for (const [name, { prompts, features, parts }] of Object.entries(cases)) {
    let selection: RowRequest['selection'] = [];
    if (parts !== undefined) {
      if (!parts.every(([part]) => digests.has(part))) continue;
      selection = parts.map(([part, weight]) => ({ digest: digests.get(part)!, weight }));
    } else if (name !== 'base') {
      try {
        const adapter = await flattenReplaced(await readAdapterFolder(join(dir, 'adapters', name), base), base);
        await engine.load(adapter);
        digests.set(name, adapter.digest);
        selection = [{ digest: adapter.digest, weight: 1 }];
        counts.adapters += 1;
      } catch (thrown) {
        refused(`adapter`, thrown);
        if (process.env.VERBOSE) console.log(`  ${dir} ${name} ${features.join(' ')}`);
        continue;
      }
    }
    for (const [prompt, ids] of prompts.entries()) {
      const id = rows.length;
      rows.push({ name, prompt, ids, prompts: [], tokens: [] });
      const sampling = {
        ...{ temperature: 0, topK: 0, topP: 1, minP: 0, seed: 1, logprobs: all },
        ...{ repetitionPenalty: 1, presencePenalty: 0, frequencyPenalty: 0 },
      };
      // One new token: where the rotary table depends on a row's length, that is the reference's table as well.
      const request = { id, promptIds: ids, selection, sampling, maxNewTokens: 1, endIds: [], submittedAt: 0 };
      engine.submit({ ...request, promptLogprobs: all });
    }
  }
  while (engine.busy) {
    const { prompts, tokens, ends } = await engine.step();
    for (const event of prompts) rows[event.id]!.prompts.push(event);
    for (const event of tokens) rows[event.id]!.tokens.push(event);
    for (const { id, cause, message } of ends) if (cause === 'error') rows[id]!.error = message;
  }
  const expected = await openExpected(dir);
  for (const row of rows) {
    counts.rows += 1;
    const ids = cases[row.name]!.vocab ?? vocabSize;
    const difference = row.error === undefined ? await differenceOf(row, expected, ids) : Number.NaN;
    if (difference <= 1) {
      counts.equal += 1;
      if (difference > worst.value) Object.assign(worst, { value: difference, where: `${dir} ${row.name}` });
      continue;
    }
    counts.differ += 1;
    const { features } = cases[row.name]!;
    const horizon = JSON.stringify(folder.spec.ropes.map((rope) => rope.beyond?.kind ?? 'plain'));
    const what = row.error ?? `${difference.toExponential(2)} times the tolerance`;
    console.log(`DIFFERS ${dir} ${row.name} prompt ${row.prompt} (${row.ids.length}): ${what} ${horizon} ${features}`);
  }
  await expected.close();
  await folder.close();
}

function openExpected(dir: string): Promise<SafetensorsFile> {
  return openSafetensors(join(dir, 'expected.st'));
}

/** Largest difference of log-probabilities, in tolerances. */
async function differenceOf(row: Row, expected: SafetensorsFile, vocabSize: number): Promise<number> {
  const logits = await expected.readFloat32(`${row.name}/${row.prompt}`);
  const size = logits.reduce((most, value) => Math.max(most, Math.abs(value)), 10);
  let most = 0;
  let compared = 0;
  const compare = (position: number, id: number, logprob: number): void => {
    const at = logits.subarray(position * vocabSize, (position + 1) * vocabSize);
    const difference = Math.abs(logprob - (at[id]! - logSumExp(at)));
    most = Math.max(most, Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference);
    compared += 1;
  };
  for (const { from, logprobs, topIds, topLogprobs } of row.prompts) {
    for (let i = 0; i < logprobs.length * vocabSize; i += 1) {
      compare(from - 1 + Math.floor(i / vocabSize), topIds[i]!, topLogprobs[i]!);
    }
  }
  for (const { id, logprob } of row.tokens[0]?.top ?? []) compare(row.ids.length - 1, id, logprob);
  if (compared !== logits.length) return Number.POSITIVE_INFINITY;
  return most / (TOLERANCE * (size / 10));
}

const [root] = process.argv.slice(2);
for (const name of readdirSync(root!).sort()) {
  const dir = join(root!, name);
  if (!existsSync(join(dir, 'cases.json'))) continue;
  await compareModel(dir).catch((thrown: Error) => {
    counts.differ += 1;
    console.log(`FAILS ${dir}: ${thrown.stack}`);
  });
}
for (const [why, count] of refusals) console.log(`refused ${count} times: ${why}`);
console.log(JSON.stringify(counts), `worst equal: ${worst.value.toFixed(3)} of the tolerance, ${worst.where}`);
process.exitCode = counts.differ > 0 ? 1 : 0;
