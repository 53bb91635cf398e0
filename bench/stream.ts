/** One streamed request to our server, token by token. */

/** What a stream showed; times in milliseconds of `performance.now()`. */
export interface StreamTimes {
  readonly startedAt: number;
  /** One for each token. */
  readonly tokensAt: readonly number[];
  /** Prompt tokens, and how many of them the server had in its prefix cache. */
  readonly promptTokens: number;
  readonly cachedTokens: number;
}

/** Sends a prompt and follows its answer. Throws on any error. */
export async function followStream(
  url: string,
  request: {
    readonly prompt: string;
    readonly newTokens: number;
    readonly adapter?: string | undefined;
    /** Leaves the stream; following it then throws. */
    readonly signal?: AbortSignal | undefined;
  },
  onToken: (index: number) => void = () => {},
): Promise<StreamTimes> {
  const startedAt = performance.now();
  const response = await fetch(`${url}/invocations`, {
    method: 'POST',
    signal: request.signal ?? null,
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      inputs: request.prompt,
      stream: true,
      ...(request.adapter !== undefined && { adapters: request.adapter }),
      parameters: { max_new_tokens: request.newTokens, ignore_eos_token: true, details: true },
    }),
  });
  if (!response.ok || response.body === null) throw new Error(`${response.status} ${await response.text()}`);
  const decoder = new TextDecoder();
  const tokensAt: number[] = [];
  let details: { input_length: number; cached_tokens: number } | undefined;
  let rest = '';
  for await (const chunk of response.body) {
    rest += decoder.decode(chunk, { stream: true });
    const lines = rest.split('\n');
    rest = lines.pop()!;
    for (const line of lines) {
      if (line === '') continue;
      const event = JSON.parse(line) as { token?: unknown; error?: string; details?: typeof details };
      if (event.error !== undefined) throw new Error(event.error);
      if (event.token !== undefined) {
        tokensAt.push(performance.now());
        onToken(tokensAt.length);
      }
      details = event.details ?? details;
    }
  }
  if (details === undefined) throw new Error('the stream ended without its details');
  return { startedAt, tokensAt, promptTokens: details.input_length, cachedTokens: details.cached_tokens };
}
