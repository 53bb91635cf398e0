/** Hosts of handlers that tests write. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import type { InputParts } from '../../sdk/handler-input.js';
import { HandlerHost, type HostOptions } from '../../server/handlers/host.js';

/** A call that nobody leaves. */
export const CALL = { requestId: 'r-1', signal: new AbortController().signal };
/** What a handler is called with: a text, and properties. */
export const input = (text: string, properties: [string, string][] = []): InputParts => ({
  properties,
  content: [{ key: 'data', value: Buffer.from(text) }],
});

/** A handler of this source, started; its module is `handler.mjs` in the model's folder. */
export async function started(
  t: TestContext,
  source: string,
  options: Partial<HostOptions> = {},
): Promise<HandlerHost> {
  const modelDir = options.modelDir ?? mkdtempSync(path.join(tmpdir(), 'loramux-handler-'));
  const entryPoint = path.join(modelDir, 'handler.mjs');
  writeFileSync(entryPoint, source);
  const host = new HandlerHost({
    model: 'echo',
    modelDir,
    entryPoint,
    properties: { 'option.x': 'y' },
    limits: { callMs: 20_000, memoryBytes: 64 * 1024 * 1024 },
    inference: undefined,
    registrations: () => [],
    log: { info: () => {}, warn: () => {} },
    ...options,
  });
  t.after(async () => {
    await host.close();
    rmSync(modelDir, { recursive: true, force: true });
  });
  await host.start();
  return host;
}
