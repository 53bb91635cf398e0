/** The embedded demo model, served and asked over HTTP: whether its answers are PyTorch's, and how fast they come. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Server } from '../compose.js';
import type { SelfTest } from './report.js';

/** What PyTorch answered, as tools/demo writes it. */
interface Expected {
  readonly max_new_tokens: number;
  readonly cases: readonly {
    /** 'base' or the adapter's name. */
    readonly adapter: string;
    readonly prompt: string;
    readonly kind: 'text' | 'chat';
    readonly prompt_ids: readonly number[];
    readonly ids: readonly number[];
  }[];
}

/** One input of a request. */
interface Row {
  readonly ids: readonly number[];
  /** '' = base. */
  readonly adapter: string;
}

/** Least time that each speed is measured for. */
const MEASURE_MS = 1200;

/** New tokens of each row of a measurement. */
const NEW_TOKENS = 64;

/**
 * Runs the test; what goes wrong is in the result.
 * @param demoDir folder of the demo model
 * @param start serves that model, ready to listen
 */
export async function selfTest(demoDir: string, start: () => Promise<Server>): Promise<SelfTest> {
  const startedAt = performance.now();
  const tokensPerSecond = { base: 0, oneAdapter: 0, eightRowsMixed: 0 };
  const nothing = { passed: false, answers: 0, startMs: 0, tokensPerSecond };
  let server: Server;
  try {
    server = await start();
  } catch (error) {
    return { ...nothing, faults: [(error as Error).message] };
  }
  try {
    const url = await server.listen();
    const startMs = performance.now() - startedAt;
    const device = server.device(server.models[0]!.name);
    const expected = JSON.parse(readFileSync(join(demoDir, 'expected.json'), 'utf8')) as Expected;
    const { cases } = expected;
    const rows = cases.map(({ adapter, prompt_ids }) => ({ ids: prompt_ids, adapter: nameOf(adapter) }));
    const answers = await ask(url, rows, { max_new_tokens: expected.max_new_tokens });
    const faults = cases.flatMap(({ adapter, kind, prompt, ids }, i) => {
      const at = ids.findIndex((id, position) => answers[i]![position] !== id);
      if (at < 0 && answers[i]!.length === ids.length) return [];
      const where = at < 0 ? ids.length : at;
      return [
        `${adapter}, ${kind} ${JSON.stringify(prompt)}: token ${where} is ${answers[i]![where]}, not ${ids[where]}`,
      ];
    });
    const [row] = rows;
    const adapters = [...new Set(rows.map(({ adapter }) => adapter))];
    const mixed = Array.from({ length: 8 }, (_, i) => ({ ids: row!.ids, adapter: adapters[i % adapters.length]! }));
    tokensPerSecond.base = await speed(url, [{ ids: row!.ids, adapter: '' }]);
    tokensPerSecond.oneAdapter = await speed(url, [{ ids: row!.ids, adapter: adapters.at(-1)! }]);
    tokensPerSecond.eightRowsMixed = await speed(url, mixed);
    return { passed: faults.length === 0, answers: cases.length, faults, device, startMs, tokensPerSecond };
  } catch (error) {
    return { ...nothing, faults: [(error as Error).message] };
  } finally {
    await server.close(0);
  }
}

const nameOf = (adapter: string): string => (adapter === 'base' ? '' : adapter);

/** Sends the rows in one request. @returns new tokens' ids of each */
async function ask(url: string, rows: readonly Row[], parameters: object): Promise<number[][]> {
  const response = await fetch(`${url}/invocations`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      inputs: rows.map(({ ids }) => ids),
      adapters: rows.map(({ adapter }) => adapter),
      parameters: { ...parameters, details: true },
    }),
  });
  if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
  const answers = (await response.json()) as { details: { tokens: { id: number }[] } }[];
  return answers.map(({ details }) => details.tokens.map(({ id }) => id));
}

/** Tokens per second of the same request, again and again; the first does not count. */
async function speed(url: string, rows: readonly Row[]): Promise<number> {
  const parameters = { max_new_tokens: NEW_TOKENS, ignore_eos_token: true };
  await ask(url, rows, parameters);
  let tokens = 0;
  const from = performance.now();
  while (performance.now() - from < MEASURE_MS) {
    for (const answer of await ask(url, rows, parameters)) tokens += answer.length;
  }
  return (tokens / (performance.now() - from)) * 1000;
}
