/** Closed-loop streaming load over HTTP: a number of streams, each sending its next request when one ends. */
import { type Dialect, LORAMUX } from './dialects.js';

/** One load. */
export interface LoadOptions {
  readonly url: string;
  readonly streams: number;
  readonly requests: number;
  readonly maxNewTokens: number;
  /** Words per prompt. */
  readonly promptWords: number;
  /** Request i names adapter i modulo their number; empty = base. */
  readonly adapters: readonly string[];
  /** Default: ours. */
  readonly dialect?: Dialect | undefined;
}

/** What came out; times in milliseconds. */
export interface LoadResult {
  readonly tokensPerSecond: number;
  readonly firstTokenP50: number;
  readonly firstTokenP99: number;
  readonly interTokenP50: number;
  readonly interTokenP99: number;
  readonly failed: number;
}

const WORDS =
  'harbour lantern meadow copper violin planet cotton thunder ladder pepper window glacier pencil orchard carpet magnet'.split(
    ' ',
  );

/** A prompt that no other request of a run shares its beginning with. */
export function prompt(request: number, words: number): string {
  let state = (request + 1) * 2_654_435_761;
  const picked = Array.from({ length: words }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return WORDS[(state >>> 16) % WORDS.length];
  });
  return `Report ${request}: ${picked.join(' ')}`;
}

/** Runs the load after two requests that do not count. */
export async function runLoad(options: LoadOptions): Promise<LoadResult> {
  const { dialect = LORAMUX } = options;
  const firstToken: number[] = [];
  const interToken: number[] = [];
  let tokens = 0;
  let failed = 0;
  const send = async (request: number, count: boolean): Promise<void> => {
    const index = request % options.adapters.length;
    const name = options.adapters[index];
    const { path, body } = dialect.request(
      prompt(request, options.promptWords),
      options.maxNewTokens,
      name === undefined ? undefined : { name, index },
    );
    const start = performance.now();
    let last = start;
    let seen = 0;
    const response = await fetch(`${options.url}${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    if (!response.ok || response.body === null) throw new Error(`${response.status} ${await response.text()}`);
    const decoder = new TextDecoder();
    let rest = '';
    for await (const chunk of response.body) {
      rest += decoder.decode(chunk, { stream: true });
      const lines = rest.split('\n');
      rest = lines.pop()!;
      for (const line of lines) {
        if (line === '' || !dialect.isToken(line)) continue;
        const now = performance.now();
        if (count) (seen === 0 ? firstToken : interToken).push(now - (seen === 0 ? start : last));
        last = now;
        seen += 1;
      }
    }
    if (count) tokens += seen;
  };
  for (let warm = 0; warm < 2; warm += 1) await send(1_000_000 + warm, false);
  let next = 0;
  const start = performance.now();
  const stream = async () => {
    while (next < options.requests) {
      const request = next;
      next += 1;
      await send(request, true).catch((error: Error) => {
        failed += 1;
        console.error(`request ${request}: ${error.message}`);
      });
    }
  };
  await Promise.all(Array.from({ length: options.streams }, stream));
  const seconds = (performance.now() - start) / 1000;
  return {
    tokensPerSecond: tokens / seconds,
    firstTokenP50: percentile(firstToken, 0.5),
    firstTokenP99: percentile(firstToken, 0.99),
    interTokenP50: percentile(interToken, 0.5),
    interTokenP99: percentile(interToken, 0.99),
    failed,
  };
}

/** Nearest-rank percentile; NaN without values. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
}
