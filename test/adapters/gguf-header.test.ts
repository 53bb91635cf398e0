/** GGUF headers: what is read, and that nothing a file says is believed before it is checked. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import fc from 'fast-check';
import { openGguf } from '../../server/adapters/gguf/gguf-file.js';
import { parseGgufHeader } from '../../server/adapters/gguf/gguf-header.js';
import { AppError } from '../../server/errors.js';
import { f32Tensor, int, type RawGguf, rawGguf, str, text, u32, u64 } from './raw-gguf.js';

const dir = mkdtempSync(join(tmpdir(), 'gguf-'));
after(() => rmSync(dir, { recursive: true }));

const parse = (raw: RawGguf | Buffer) => {
  const bytes = Buffer.isBuffer(raw) ? raw : rawGguf(raw);
  return parseGgufHeader(bytes, bytes.length);
};
/** Header up to the metadata, then these bytes. */
const withMetadata = (...parts: Buffer[]) =>
  Buffer.concat([Buffer.from('GGUF'), u32(3), u64(0), u64(1), ...parts, Buffer.alloc(64)]);
const zeros = new Uint8Array(64);

describe('GGUF header', () => {
  test('gives metadata by key and tensors outermost dimension first', () => {
    const { metadata, tensors } = parse({
      metadata: {
        'general.architecture': str('llama'),
        'llama.block_count': int(2),
        'tokenizer.ggml.tokens': { type: 9, of: 8, value: ['a', 'é', ''] },
        'tokenizer.ggml.scores': { type: 9, of: 6, value: [0.5, -1, 0] },
        'tokenizer.ggml.add_bos_token': { type: 7, value: true },
      },
      tensors: [f32Tensor('x', [2, 3]), { name: 'y', dims: [32, 2], type: 8, data: new Uint8Array(68) }],
    });
    assert.equal(metadata.get('general.architecture'), 'llama');
    assert.equal(metadata.get('llama.block_count'), 2);
    assert.deepEqual(metadata.get('tokenizer.ggml.tokens'), ['a', 'é', '']);
    assert.deepEqual(metadata.get('tokenizer.ggml.scores'), Float32Array.of(0.5, -1, 0));
    assert.equal(metadata.get('tokenizer.ggml.add_bos_token'), true);
    assert.deepEqual(tensors.get('x')?.shape, [2, 3]);
    const y = tensors.get('y')!;
    assert.deepEqual([y.shape, y.type.name, y.bytes], [[2, 32], 'Q8_0', 68]);
    assert.equal(y.offset % 32, 0);
  });

  const refused: readonly [string, RawGguf | Buffer, RegExp][] = [
    ['another kind of file', Buffer.from('PK\x03\x04 and much more of it'), /not a GGUF file/],
    ['an empty file', Buffer.alloc(0), /the file ends/],
    ['version 1', { version: 1 }, /version 1; versions 2 and 3/],
    ['big-endian files', { version: 0x03000000 }, /big-endian/],
    ['a huge number of tensors', { tensorCount: 2n ** 60n }, /the number of tensors is 1152921504606846976/],
    ['more tensors than any model has', { tensorCount: 10_000_000 }, /announces 10000000 tensors; at most/],
    ['more metadata than any model has', { metadataCount: 10_000_000 }, /announces 10000000 metadata entries/],
    ['tensors that are not there', { tensorCount: 3 }, /the file ends after/],
    ['a key longer than the file', withMetadata(u64(60_000), Buffer.from('k')), /metadata key.*needs 60000 bytes/],
    ['a key of 2^63 bytes', withMetadata(u64(2n ** 63n)), /no real file has/],
    ['a text longer than the file', withMetadata(text('k'), u32(8), u64(10_000)), /metadata "k" is 10000 bytes/],
    ['an unknown value type', withMetadata(text('k'), u32(13)), /metadata "k" has the unknown type 13/],
    ['arrays of arrays', withMetadata(text('k'), u32(9), u32(9), u64(1)), /array of type 9/],
    ['an array longer than the file', withMetadata(text('k'), u32(9), u32(4), u64(2n ** 50n)), /the file ends after/],
    ['texts that cannot fit', withMetadata(text('k'), u32(9), u32(8), u64(2n ** 40n)), /the file ends after/],
    ['a boolean of 7', withMetadata(text('k'), u32(7), Buffer.from([7])), /a boolean is 0 or 1/],
    [
      'a key twice',
      Buffer.concat([
        Buffer.from('GGUF'),
        u32(3),
        u64(0),
        u64(2),
        text('k'),
        u32(4),
        u32(1),
        text('k'),
        u32(4),
        u32(2),
      ]),
      /metadata "k" is there twice/,
    ],
    ['a tensor twice', { tensors: [f32Tensor('x', [8]), f32Tensor('x', [8])] }, /tensor "x" is there twice/],
    ['no dimensions', { tensors: [{ name: 'x', dims: [], type: 0, data: zeros }] }, /has 0 dimensions/],
    ['five dimensions', { tensors: [{ name: 'x', dims: [1, 1, 1, 1, 1], type: 0, data: zeros }] }, /has 5 dimensions/],
    ['a dimension of 0', { tensors: [{ name: 'x', dims: [0, 4], type: 0, data: zeros }] }, /dimension 0 is 0/],
    [
      'an unknown element type',
      { tensors: [{ name: 'x', dims: [8], type: 99, data: zeros }] },
      /unknown element type 99/,
    ],
    ['rows of broken blocks', { tensors: [{ name: 'x', dims: [33], type: 8, data: zeros }] }, /no whole blocks of 32/],
    [
      'data after the end',
      { tensors: [{ name: 'x', dims: [64], type: 0, data: zeros }] },
      /takes 256 bytes; the file has/,
    ],
    [
      'sizes that overflow',
      { tensors: [{ name: 'x', dims: [2 ** 40, 2 ** 40], type: 0, data: zeros }] },
      /the file has/,
    ],
    [
      'a misplaced tensor',
      { tensors: [{ ...f32Tensor('x', [4]), offset: 4 }, f32Tensor('y', [4])] },
      /no multiple of 32/,
    ],
    ['shared bytes', { tensors: [f32Tensor('x', [16]), { ...f32Tensor('y', [16]), offset: 32 }] }, /share bytes/],
    ['an alignment of 3', { metadata: { 'general.alignment': int(3) } }, /general.alignment is 3/],
    ['an alignment of 0', { metadata: { 'general.alignment': int(0) } }, /general.alignment is 0/],
  ];
  for (const [what, raw, message] of refused)
    test(`refuses ${what}`, () => void assert.throws(() => parse(raw), message));
});

describe('GGUF file', () => {
  test('reads a header that is longer than the first window', async () => {
    const tokens = Array.from({ length: 60_000 }, (_, i) => `token ${i}`);
    const path = join(dir, 'long.gguf');
    const metadata = { 'tokenizer.ggml.tokens': { type: 9, of: 8, value: tokens } } as const;
    writeFileSync(path, rawGguf({ metadata, tensors: [f32Tensor('x', [4], (i) => i)] }));
    const file = await openGguf(path);
    assert.deepEqual(file.metadata.get('tokenizer.ggml.tokens'), tokens);
    assert.deepEqual(await file.readFloat32('x'), Float32Array.of(0, 1, 2, 3));
    await file.close();
  });

  test('refuses a header that is longer than allowed, and names the file', async () => {
    const path = join(dir, 'too-long.gguf');
    writeFileSync(path, rawGguf({ metadata: { note: str('x'.repeat(10_000)) } }));
    await assert.rejects(openGguf(path, { maxHeaderBytes: 4096, reason: 'ADAPTER_INVALID' }), {
      reason: 'ADAPTER_INVALID',
      message: 'too-long.gguf: the header is longer than 4096 bytes, the most that is read',
    });
  });

  test('refuses what is missing or no file', async () => {
    await assert.rejects(openGguf(join(dir, 'none.gguf')), /none.gguf: the file is missing/);
    await assert.rejects(openGguf(dir), /not a regular file/);
  });

  test('any damage to a file is refused with the reason, or leaves a header that fits the file', async () => {
    const whole = rawGguf({
      metadata: {
        'general.architecture': str('llama'),
        'general.alignment': int(32),
        list: { type: 9, of: 8, value: ['a', 'b', 'c'] },
        scores: { type: 9, of: 6, value: [1, 2, 3] },
      },
      tensors: [f32Tensor('x', [4, 8]), { name: 'y', dims: [32], type: 8, data: new Uint8Array(34) }],
    });
    const path = join(dir, 'fuzz.gguf');
    const damage = fc.record({
      edits: fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { minLength: 1, maxLength: 6 }),
      cut: fc.option(fc.nat(whole.length), { freq: 4 }),
    });
    await fc.assert(
      fc.asyncProperty(damage, async ({ edits, cut }) => {
        const bytes = Buffer.from(whole);
        for (const [at, value] of edits) bytes[at] = value;
        writeFileSync(path, bytes.subarray(0, cut ?? bytes.length));
        try {
          const file = await openGguf(path);
          for (const tensor of file.tensors.values()) {
            assert.ok(tensor.offset + tensor.bytes <= (cut ?? bytes.length));
            await file.readRaw(tensor.name);
          }
          await file.close();
        } catch (error) {
          assert.ok(error instanceof AppError, String(error));
          assert.match(error.message, /^fuzz.gguf: ./);
        }
      }),
      { numRuns: 1500 },
    );
  });
});
