/** How each server under load is asked for a stream, and how its tokens are told in what comes back. */

/** One streaming request. */
export interface StreamRequest {
  readonly path: string;
  readonly body: unknown;
}

/** What a load needs to know of a server's protocol. */
export interface Dialect {
  /** @param adapter index into the load's adapters; undefined = base */
  request(prompt: string, newTokens: number, adapter: { name: string; index: number } | undefined): StreamRequest;
  /** True when the line carries one token; throws with the server's message when it carries a failure. */
  isToken(line: string): boolean;
}

/** Our JSON lines. */
export const LORAMUX: Dialect = {
  request: (prompt, newTokens, adapter) => ({
    path: '/invocations',
    body: {
      inputs: prompt,
      stream: true,
      ...(adapter !== undefined && { adapters: adapter.name }),
      parameters: { max_new_tokens: newTokens, do_sample: false, ignore_eos_token: true },
    },
  }),
  isToken: (line) => {
    const event = JSON.parse(line) as { token?: unknown; error?: string };
    if (event.error !== undefined) throw new Error(event.error);
    return event.token !== undefined;
  },
};

/** llama.cpp's server: server-sent events of `/completion`; the adapters of a request by their number. */
export const LLAMA_CPP: Dialect = {
  request: (prompt, newTokens, adapter) => ({
    path: '/completion',
    body: {
      prompt,
      n_predict: newTokens,
      temperature: 0,
      stream: true,
      ignore_eos: true,
      cache_prompt: false,
      lora: adapter === undefined ? [] : [{ id: adapter.index, scale: 1 }],
    },
  }),
  isToken: (line) => {
    if (!line.startsWith('data: ')) {
      if (line.startsWith('error: ')) throw new Error(line);
      return false;
    }
    const event = JSON.parse(line.slice(6)) as { content?: string; stop?: boolean; error?: { message: string } };
    if (event.error !== undefined) throw new Error(event.error.message);
    return event.stop !== true;
  },
};
