/**
 * Identity of a base model's files. Hashing every weight of a large model would delay each start, so the weights enter
 * by their complete headers, their sizes, and 64 evenly spaced samples of 4 KiB a file.
 */
import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { readRegular } from '../regular-file.js';
import type { ModelFolder } from './model-folder.js';

const SAMPLES = 64;
const SAMPLE_BYTES = 4096;

/** SHA-256, lower-case hex, over config.json, tokenizer.json and the weight files as described above. */
export async function fingerprintOf(folder: ModelFolder): Promise<string> {
  const hash = createHash('sha256');
  for (const name of ['config.json', 'tokenizer.json']) {
    const bytes = await readRegular(join(folder.dir, name)).catch(() => Buffer.alloc(0));
    hash.update(`${name}:${bytes.length}:`).update(bytes);
  }
  for (const file of folder.checkpoint.files) {
    const handle = await open(file.path);
    try {
      const { size } = await handle.stat();
      hash.update(`${basename(file.path)}:${size}:${file.headerDigest ?? ''}`);
      for (const { name, dtype, shape, offset } of file.tensors.values())
        hash.update(`${name}:${dtype}:${shape}:${offset};`);
      const sample = Buffer.alloc(SAMPLE_BYTES);
      for (let i = 0; i < SAMPLES; i += 1) {
        const { bytesRead } = await handle.read(
          sample,
          0,
          SAMPLE_BYTES,
          Math.floor((i * Math.max(0, size - SAMPLE_BYTES)) / (SAMPLES - 1)),
        );
        hash.update(sample.subarray(0, bytesRead));
      }
    } finally {
      await handle.close();
    }
  }
  return hash.digest('hex');
}
