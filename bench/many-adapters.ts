/** Copies of adapters with contents of their own, and their registration at a running server. */
import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Makes `count` adapters from those in `source`, in turns. Each has a low bit of one value changed, so that each is
 * another content, and none can be shared.
 * @param prefix what their names begin with, before their number
 * @returns their folders
 */
export function makeAdapters(source: string, target: string, count: number, prefix = 'n'): string[] {
  const originals = readdirSync(source, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => join(source, name));
  if (originals.length === 0) throw new Error(`there are no adapters in ${source}`);
  return Array.from({ length: count }, (_, i) => {
    const folder = join(target, `${prefix}${i}`);
    mkdirSync(folder, { recursive: true });
    const original = originals[i % originals.length]!;
    cpSync(join(original, 'adapter_config.json'), join(folder, 'adapter_config.json'));
    const bytes = readFileSync(join(original, 'adapter_model.safetensors'));
    const copy = Math.floor(i / originals.length);
    const data = 8 + Number(bytes.readBigUInt64LE(0));
    // Bit 0 of the first byte of a value, whatever its type; value after value, as the bits of the copy's number.
    for (let bit = 0; copy >> bit > 0; bit += 1) bytes[data + bit * 4]! ^= (copy >> bit) & 1;
    writeFileSync(join(folder, 'adapter_model.safetensors'), bytes);
    return folder;
  });
}

/** Registers folders under their own names. @returns names, in order */
export async function registerAll(url: string, folders: readonly string[], preload: boolean): Promise<string[]> {
  const names: string[] = [];
  for (const folder of folders) {
    const name = folder.split('/').at(-1)!;
    await register(url, name, folder, preload);
    names.push(name);
  }
  return names;
}

/** Registers one adapter; with `preload` the answer comes when its weights are in memory. */
export async function register(url: string, name: string, folder: string, preload: boolean): Promise<void> {
  const query = new URLSearchParams({ name, src: folder, preload: String(preload) });
  const response = await fetch(`${url}/adapters?${query}`, { method: 'POST' });
  if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
  await response.arrayBuffer();
}

/** Bytes that an adapter takes in memory. */
export async function bytesOf(url: string, name: string): Promise<number> {
  return ((await (await fetch(`${url}/adapters/${name}?verbose=true`)).json()) as { bytes: number }).bytes;
}
