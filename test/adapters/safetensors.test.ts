import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import fc from 'fast-check';
import { openSafetensors } from '../../server/adapters/safetensors.js';
import { openSafetensorsSet } from '../../server/adapters/safetensors-set.js';
import { firstNonFinite } from '../../server/adapters/tensor-dtype.js';
import { AppError } from '../../server/errors.js';
import { GOLDEN } from './golden-base.js';
import { encodeFile, readRawFile, withHeader } from './raw-safetensors.js';

const dir = mkdtempSync(join(tmpdir(), 'safetensors-'));
after(() => rmSync(dir, { recursive: true }));
let count = 0;

function file(bytes: Uint8Array): string {
  count += 1;
  const path = join(dir, `${count}.safetensors`);
  writeFileSync(path, bytes);
  return path;
}

async function fault(path: string, maxHeaderBytes?: number): Promise<string> {
  const options = { reason: 'ADAPTER_INVALID', maxHeaderBytes } as const;
  const error = await openSafetensors(path, options).then(
    async (open) => {
      await open.close();
      throw new Error('it was opened');
    },
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof AppError, String(error));
  assert.equal(error.reason, 'ADAPTER_INVALID');
  return error.message;
}

const one = (header: unknown, bytes = 16) => withHeader(JSON.stringify(header), new Uint8Array(bytes));
const tensor = (dtype: string, shape: unknown, offsets: unknown) => ({ dtype, shape, data_offsets: offsets });

describe('a safetensors file', () => {
  it('gives the same numbers as a naive reader, for f32, f16 and bf16', async () => {
    for (const path of ['llama/qv-r4', 'llama/f16', 'llama/bf16']) {
      const full = `${GOLDEN}adapters/${path}/adapter_model.safetensors`;
      const open = await openSafetensors(full);
      const raw = readRawFile(full);
      assert.deepEqual([...open.tensors.keys()].sort(), [...raw.keys()].sort());
      for (const [name, { shape, values }] of raw) {
        assert.deepEqual(open.tensors.get(name)?.shape, shape);
        assert.deepEqual(Array.from(await open.readFloat32(name)), values);
      }
      await open.close();
    }
  });

  it('converts every float16 and float64 value, subnormals, infinities and NaN included', async () => {
    const bits = Uint16Array.from({ length: 65536 }, (_, i) => i);
    const doubles = Float64Array.of(0, -0, 1e-50, 1.1, -3e38, 1e39, Number.NaN);
    const header = { h: tensor('F16', [65536], [0, 131072]), d: tensor('F64', [7], [131072, 131128]) };
    const data = Buffer.concat([Buffer.from(bits.buffer), Buffer.from(doubles.buffer)]);
    const open = await openSafetensors(file(withHeader(JSON.stringify(header), data)));
    const half = await open.readFloat32('h');
    assert.equal(half[1], 2 ** -24);
    assert.equal(half[0x3c00], 1);
    assert.equal(half[0x7bff], 65504);
    assert.equal(half[0xfc00], Number.NEGATIVE_INFINITY);
    assert.ok(Number.isNaN(half[0x7e00]));
    assert.ok(Object.is(half[0x8000], -0));
    assert.deepEqual(Array.from(await open.readFloat32('d')), Array.from(Float32Array.from(doubles)));
    await open.close();
  });

  it('tells where each tensor lies, so that it can be mapped in place', async () => {
    const bytes = encodeFile([
      ['a', { shape: [2], values: [1, 2] }],
      ['b', { shape: [1, 1], values: [3] }],
    ]);
    const open = await openSafetensors(file(bytes));
    const b = open.tensors.get('b');
    assert.deepEqual([b?.offset, b?.bytes], [bytes.length - 4, 4]);
    assert.equal(bytes.readFloatLE(b!.offset), 3);
    await open.close();
  });

  it('refuses a header longer than the file or the limit', async () => {
    const huge = Buffer.alloc(64);
    huge.writeBigUInt64LE(2n ** 63n);
    assert.match(await fault(file(huge)), /claims 9223372036854775808 bytes/);
    assert.match(await fault(file(Buffer.alloc(5))), /too few/);
    assert.match(await fault(file(Buffer.alloc(0))), /empty/);
    assert.match(await fault(file(withHeader(`{}${' '.repeat(100)}`, Buffer.alloc(0))), 50), /at most 50/);
  });

  it('refuses every lie of a header, naming the tensor', async () => {
    const cases: readonly (readonly [unknown, RegExp])[] = [
      [[], /not an object/],
      [{ t: 1 }, /"t": its header entry/],
      [{ t: tensor('F33', [4], [0, 16]) }, /"t": dtype "F33"/],
      [{ t: tensor('toString', [4], [0, 16]) }, /dtype "toString"/],
      [{ t: tensor('F32', [-4], [0, 16]) }, /"t": shape/],
      [{ t: tensor('F32', [1.5], [0, 16]) }, /"t": shape/],
      [{ t: tensor('F32', '4', [0, 16]) }, /"t": shape/],
      [{ t: tensor('F32', [2 ** 52, 2 ** 52], [0, 16]) }, /too large/],
      [{ t: tensor('F32', [1, 1, 1, 1, 1, 1, 1, 1, 4], [0, 16]) }, /9 dimensions/],
      [{ t: tensor('F32', [4], [0, 20]) }, /end at 20/],
      [{ t: tensor('F32', [4], [16, 0]) }, /backwards/],
      [{ t: tensor('F32', [4], [0]) }, /not a pair/],
      [{ t: tensor('F32', [3], [0, 16]) }, /needs 12 bytes, but data_offsets give 16/],
      [{ t: { ...tensor('F32', [4], [0, 16]), more: 1 } }, /unknown header field "more"/],
      [{ t: tensor('F32', [2], [0, 8]), u: tensor('F32', [3], [4, 16]) }, /"t" and "u" share bytes/],
      [{ t: tensor('F32', [1], [0, 4]), u: tensor('F32', [2], [8, 16]) }, /4 bytes between "t" and "u"/],
      [{ t: tensor('F32', [3], [0, 12]) }, /4 bytes after "t"/],
      [{ __metadata__: { a: 1 }, t: tensor('F32', [4], [0, 16]) }, /__metadata__/],
    ];
    for (const [header, message] of cases) assert.match(await fault(file(one(header))), message);
    const twice =
      '{"t":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"t":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}';
    assert.match(await fault(file(withHeader(twice, new Uint8Array(16)))), /"t" stands twice/);
  });

  it('refuses a folder, a missing file, and one that shrinks while it is read', async () => {
    mkdirSync(join(dir, 'folder'), { recursive: true });
    assert.match(await fault(join(dir, 'folder')), /not a regular file|EISDIR/);
    assert.match(await fault(join(dir, 'none.safetensors')), /none.safetensors: the file is missing/);
    const path = file(encodeFile([['a', { shape: [4], values: [1, 2, 3, 4] }]]));
    const open = await openSafetensors(path);
    truncateSync(path, open.tensors.get('a')!.offset + 3);
    await assert.rejects(open.readFloat32('a'), /became shorter/);
    await assert.rejects(open.readRaw('b'), /no tensor "b"/);
    await open.close();
  });

  it('never crashes and never accepts numbers from outside the file, whatever bytes are changed', async () => {
    const good = encodeFile([
      ['base_model.model.x.lora_A.weight', { shape: [2, 3], values: [1, 2, 3, 4, 5, 6] }],
      ['base_model.model.x.lora_B.weight', { shape: [1, 2], values: [7, 8] }],
    ]);
    const path = join(dir, 'fuzz.safetensors');
    const edit = fc.record({ at: fc.nat(good.length - 1), byte: fc.nat(255), cut: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(fc.array(edit, { minLength: 1, maxLength: 4 }), async (edits) => {
        let bytes = Buffer.from(good);
        for (const { at, byte, cut } of edits) {
          if (cut && at % 7 === 0) bytes = bytes.subarray(0, Math.max(1, at));
          else if (at < bytes.length) bytes[at] = byte;
        }
        writeFileSync(path, bytes);
        try {
          const open = await openSafetensors(path, { reason: 'ADAPTER_INVALID' });
          let sum = 0;
          for (const { name, bytes: size, dtype } of open.tensors.values()) {
            sum += size;
            if (dtype === 'F32') assert.equal((await open.readFloat32(name)).byteLength, size);
          }
          assert.ok(sum <= bytes.length);
          await open.close();
        } catch (error) {
          assert.ok(error instanceof AppError, String(error));
          assert.equal(error.reason, 'ADAPTER_INVALID');
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe('a set of shards', () => {
  const options = {
    reason: 'ADAPTER_INVALID',
    maxHeaderBytes: 1_000_000,
    checkPath: async (path: string) => path,
  } as const;
  const shards = (name: string, map: Record<string, string>) => {
    const folder = join(dir, name);
    mkdirSync(folder);
    writeFileSync(join(folder, 'w-1.safetensors'), encodeFile([['a', { shape: [1], values: [1] }]]));
    writeFileSync(join(folder, 'w-2.safetensors'), encodeFile([['b', { shape: [1], values: [2] }]]));
    writeFileSync(join(folder, 'w.safetensors.index.json'), JSON.stringify({ weight_map: map }));
    return folder;
  };

  it('reads as one file', async () => {
    const folder = shards('good', { a: 'w-1.safetensors', b: 'w-2.safetensors' });
    const set = await openSafetensorsSet(folder, 'w', options);
    assert.deepEqual([...set.tensors.keys()].sort(), ['a', 'b']);
    assert.equal((await set.readRaw('b')).readFloatLE(0), 2);
    await set.close();
  });

  it('is refused when the index and the shards disagree, or a shard lies elsewhere', async () => {
    for (const [name, map, message] of [
      ['lacks', { a: 'w-1.safetensors' }, null],
      ['wrong', { a: 'w-2.safetensors', b: 'w-2.safetensors' }, /"a" of the index is missing/],
      ['more', { a: 'w-1.safetensors', b: 'w-2.safetensors', c: 'w-2.safetensors' }, /"c" of the index is missing/],
      ['climbs', { a: '../w-1.safetensors' }, /same folder/],
      ['absolute', { a: '/w-1.safetensors' }, /same folder/],
      ['pickle', { a: 'w-1.bin' }, /\.safetensors file/],
    ] as const) {
      const opened = openSafetensorsSet(shards(name, map), 'w', options);
      if (message === null) await (await opened).close();
      else await assert.rejects(opened, message, name);
    }
  });
});

describe('the search for numbers that are not finite', () => {
  it('finds the first NaN or infinity', () => {
    assert.equal(firstNonFinite(Float32Array.of(1, -3e38, 0, 1e-45)), -1);
    assert.equal(firstNonFinite(Float32Array.of(1, Number.NaN, Number.POSITIVE_INFINITY)), 1);
    assert.equal(firstNonFinite(Float32Array.of(1, 2, Number.NEGATIVE_INFINITY)), 2);
  });

  it('looks at every place, and takes no finite number for another', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 9000 }),
        fc.nat(),
        fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY),
        fc.float({ noNaN: true, noDefaultInfinity: true }),
        (length, place, bad, other) => {
          const values = new Float32Array(length).fill(other);
          assert.equal(firstNonFinite(values), -1);
          values[place % length] = bad;
          assert.equal(firstNonFinite(values), place % length);
        },
      ),
      { numRuns: 100 },
    );
  });
});
