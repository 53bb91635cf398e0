/** What the folder of a snapshot should hold, and whether it does. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { readRegular } from '../regular-file.js';

/** A file of a snapshot. */
export interface CachedFile {
  readonly path: string;
  readonly size: number;
  readonly sha256: string;
  /** When it was last written to, as it was when its content was last looked at [Unix ms]; absent = nobody has. */
  readonly writtenMs?: number | undefined;
}

/** What a snapshot's manifest says. */
export interface Manifest {
  /** Where it came from, without secrets. */
  readonly source: string;
  readonly files: readonly CachedFile[];
}

/** Name of the manifest in a snapshot's folder. */
export const MANIFEST = 'manifest.json';
/** Name of the folder with the files. */
export const FILES = 'files';

/** A file is not what it was when it was fetched. */
export class SpoiltFile extends Error {
  /** Of what it should be. */
  readonly sha256: string;

  constructor({ path, sha256 }: CachedFile) {
    super(`${path} is not what was fetched`);
    this.name = 'SpoiltFile';
    this.sha256 = sha256;
  }
}

/** The manifest in a folder. Throws what the file system and JSON throw. */
export async function readManifest(folder: string): Promise<Manifest> {
  return JSON.parse((await readRegular(join(folder, MANIFEST))).toString()) as Manifest;
}

/** Writes a manifest, durably. */
export async function writeManifest(file: string, manifest: Manifest): Promise<void> {
  await writeFile(file, JSON.stringify(manifest), { flush: true, mode: 0o600 });
}

/**
 * Looks at the files of a snapshot: at all content that was written to since it was last looked at, as somebody else may
 * have done that, or put back a copy.
 * @returns the manifest, with new times where content was looked at; the same object = nowhere
 * @throws SpoiltFile, and what the file system throws
 */
export async function checkFiles(folder: string, manifest: Manifest): Promise<Manifest> {
  const files: CachedFile[] = [];
  for (const file of manifest.files) {
    const place = join(folder, FILES, file.path);
    const { size, mtimeMs } = await stat(place);
    if (size !== file.size) throw new SpoiltFile(file);
    if (mtimeMs === file.writtenMs) files.push(file);
    else {
      if ((await sha256Of(place)) !== file.sha256) throw new SpoiltFile(file);
      files.push({ ...file, writtenMs: mtimeMs });
    }
  }
  return files.every((file, at) => file === manifest.files[at]) ? manifest : { ...manifest, files };
}

async function sha256Of(file: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(file, { highWaterMark: 2 ** 20 }), hash);
  return hash.digest('hex');
}
