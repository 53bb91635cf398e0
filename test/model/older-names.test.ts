/** Checkpoints whose tensors have the names of other versions of transformers. */
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { openModelFolder } from '../../server/model/model-folder.js';

const FIXTURES = fileURLToPath(new URL('../fixtures/families/', import.meta.url));

const otherNames: readonly (readonly [fixture: string, what: string, rename: (name: string) => string])[] = [
  ['gpt_neox', 'GPT-NeoX with lm_head for its embed_out', (name) => name.replace('embed_out', 'lm_head')],
  ['opt', 'OPT saved without its head', (name) => name.replace(/^model\./, '')],
  ['gpt_bigcode', 'GPT-2 and its kin saved without their head', (name) => name.replace(/^transformer\./, '')],
];

for (const [fixture, what, rename] of otherNames) {
  test(`${what} is read`, async (t) => {
    const dir = mkdtempSync(join(tmpdir(), 'loramux-names-'));
    t.after(() => rmSync(dir, { recursive: true }));
    const from = join(FIXTURES, fixture);
    cpSync(join(from, 'config.json'), join(dir, 'config.json'));
    // A safetensors file: the header's length, the header, the numbers; places count from the end of the header.
    const file = readFileSync(join(from, 'model.safetensors'));
    const end = 8 + Number(file.readBigUInt64LE());
    const header: Record<string, unknown> = JSON.parse(file.toString('utf8', 8, end));
    const renamed = Object.fromEntries(Object.entries(header).map(([name, place]) => [rename(name), place]));
    assert.notDeepEqual(renamed, header);
    const bytes = Buffer.from(JSON.stringify(renamed));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(bytes.length));
    writeFileSync(join(dir, 'model.safetensors'), Buffer.concat([length, bytes, file.subarray(end)]));

    const [one, other] = [await openModelFolder(from), await openModelFolder(dir)];
    t.after(() => Promise.all([one.close(), other.close()]));
    assert.deepEqual(other.spec, one.spec);
    for (const tensor of [one.spec.embedding.weight, one.spec.head.linear.weight, one.spec.finalNorm.weight])
      assert.deepEqual(await other.checkpoint.readFloat32(tensor), await one.checkpoint.readFloat32(tensor));
  });
}
