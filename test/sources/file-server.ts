/** An HTTP server of files that breaks off, stalls, lies or redirects as a test wants it, and remembers what was asked. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** What a file's next answers do; each counts down. */
export interface Faults {
  /** Answers that end the connection after so many bytes of the body. */
  cutAfter?: number[];
  /** Answers that send so many bytes and then nothing more. */
  stallAfter?: number[];
  /** Answers with a status instead of the file. */
  status?: number[];
  /** Answers whose last byte is wrong. */
  corrupt?: number;
  /** Where to send the caller instead. */
  redirect?: string;
  /** True: ranges are not served. */
  noRanges?: boolean;
}

export interface FileServer {
  readonly url: string;
  readonly host: string;
  readonly files: Map<string, Buffer>;
  readonly faults: Map<string, Faults>;
  /** Path and Range header of each request, and its Authorization. */
  readonly requests: { path: string; range: string | undefined; authorization: string | undefined }[];
  /** Called before files are looked at; true: it has answered. */
  handle: (request: IncomingMessage, response: ServerResponse) => boolean;
  close(): Promise<void>;
}

/** Starts a server on a free loopback port. */
export async function fileServer(): Promise<FileServer> {
  const state: FileServer = {
    url: '',
    host: '',
    files: new Map(),
    faults: new Map(),
    requests: [],
    handle: () => false,
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  const server: Server = createServer((request, response) => answer(state, request, response));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return Object.assign(state, { url: `http://${host}`, host });
}

function answer(state: FileServer, request: IncomingMessage, response: ServerResponse): void {
  const path = new URL(request.url!, 'http://x').pathname;
  const { range, authorization } = request.headers;
  state.requests.push({ path, range, authorization });
  if (state.handle(request, response)) return;
  const file = state.files.get(path);
  const faults = state.faults.get(path) ?? {};
  if (faults.redirect !== undefined) {
    response.writeHead(302, { location: faults.redirect }).end();
    return;
  }
  // What asks for the first byte alone asks for the size.
  const probe = range === 'bytes=0-0' && faults.noRanges !== true;
  const status = probe ? undefined : faults.status?.shift();
  if (file === undefined || status !== undefined) {
    response.writeHead(status ?? 404).end('no');
    return;
  }
  sendFile(file, faults, probe, range, response);
}

function sendFile(
  file: Buffer,
  faults: Faults,
  probe: boolean,
  range: string | undefined,
  response: ServerResponse,
): void {
  const from = faults.noRanges ? 0 : Number(/^bytes=(\d+)-/.exec(range ?? '')?.[1] ?? 0);
  let body = Buffer.from(file.subarray(from, probe ? 1 : undefined));
  if (!probe && faults.corrupt) {
    faults.corrupt -= 1;
    body[body.length - 1]! ^= 0xff;
  }
  const partial = range !== undefined && !faults.noRanges;
  response.writeHead(partial ? 206 : 200, {
    'content-length': body.length,
    ...(partial ? { 'content-range': `bytes ${from}-${from + body.length - 1}/${file.length}` } : {}),
  });
  const cut = probe ? undefined : faults.cutAfter?.shift();
  const stall = probe ? undefined : faults.stallAfter?.shift();
  if (cut !== undefined) {
    body = body.subarray(0, cut);
    response.write(body, () => setTimeout(() => response.destroy(), 20));
  } else if (stall !== undefined) response.write(body.subarray(0, stall));
  else response.end(body);
}
