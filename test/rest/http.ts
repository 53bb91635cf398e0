/** A served app and small HTTP helpers for its tests. */
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';
import { createRestApp, type RestOptions } from '../../server/rest/app.js';
import type { Services } from '../../server/service/types.js';

/** Serves the app as `server/main.ts` does, by its routing function, on a free port until the test ends. */
export async function serve(t: TestContext, services: Services, options: Partial<RestOptions> = {}): Promise<string> {
  const app = await createRestApp(services, { maxBodyBytes: 1024 * 1024, ...options });
  const server = http.createServer((request, response) => app.routing(request, response));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    await app.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** POST of a JSON value. */
export function postJson(url: string, value: unknown, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(value),
  });
}

/** An answer, and where it says which weights answered. */
export interface ReceiptAnswer {
  readonly status: number;
  readonly header: string | undefined;
  readonly trailer: string | undefined;
  readonly text: string;
}

/** POST of a JSON value whose trailers are wanted, which fetch hides. */
export function postForReceipt(url: string, value: unknown): Promise<ReceiptAnswer> {
  return new Promise((resolve, reject) => {
    const request = http.request(url, { method: 'POST', headers: { 'content-type': 'application/json' } }, (answer) => {
      let text = '';
      answer.setEncoding('utf8').on('data', (part: string) => {
        text += part;
      });
      answer.on('end', () => {
        const header = answer.headers['x-loramux-adapter'] as string | undefined;
        resolve({ status: answer.statusCode!, header, trailer: answer.trailers['x-loramux-adapter'], text });
      });
    });
    request.on('error', reject).end(JSON.stringify(value));
  });
}

/** Parsed lines of a JSON lines body. */
export function lines(text: string): Record<string, unknown>[] {
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
}

/** Waits until a condition holds; the test's own time limit ends a wait that never does. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}
