import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { readTensors, type StoredTensor } from '../../server/adapters/tensor-windows.js';
import { WINDOW_BYTES, Windows } from '../../server/adapters/windows.js';

/** A file in memory, whose byte i is a function of i. */
const byteAt = (i: number) => (i * 31 + (i >> 8) * 7) & 255;
const read = async (target: Uint8Array, position: number) => {
  await new Promise((resolve) => setImmediate(resolve));
  for (let i = 0; i < target.length; i += 1) target[i] = byteAt(position + i);
};

/** Tensors one behind the other, beginning at byte `start`. */
function row(sizes: readonly number[], dtypes: readonly ('F32' | 'BF16' | 'F64')[], start = 8): StoredTensor[] {
  let offset = start;
  return sizes.map((bytes, i) => {
    const info = { name: `t${i}`, dtype: dtypes[i % dtypes.length]!, shape: [bytes], offset, bytes };
    offset += bytes;
    return { info, read };
  });
}

describe('tensors that pass by', () => {
  it('come whole, in order and aligned, whatever their sizes, and every window comes back', async () => {
    const size = fc.oneof(fc.nat(40), fc.nat(3000), fc.constantFrom(WINDOW_BYTES / 8, WINDOW_BYTES / 8 + 1, 300_000));
    await fc.assert(
      fc.asyncProperty(fc.array(size, { maxLength: 12 }), fc.nat(9), async (sizes, start) => {
        const tensors = row(
          sizes.map((eighths) => eighths * 8 + (eighths % 3 === 0 ? 2 : 0)),
          ['F64', 'BF16', 'F32'],
          start,
        ).filter(({ info }) => info.bytes % (info.dtype === 'BF16' ? 2 : info.dtype === 'F32' ? 4 : 8) === 0);
        const windows = new Windows(2);
        const seen = new Map<string, number>();
        for await (const { pieces, release } of readTensors(tensors, windows)) {
          for (const { name, at, bytes } of pieces) {
            const { info } = tensors.find((tensor) => tensor.info.name === name)!;
            assert.equal(at, seen.get(name) ?? 0);
            assert.equal(bytes.byteOffset % (info.dtype === 'F64' ? 8 : info.dtype === 'F32' ? 4 : 2), 0);
            if (info.bytes <= WINDOW_BYTES) assert.equal(bytes.length, info.bytes);
            const wrong = bytes.findIndex((value, i) => value !== byteAt(info.offset + at + i));
            assert.equal(wrong, -1, `${name} at ${at}`);
            seen.set(name, at + bytes.length);
          }
          release();
        }
        assert.deepEqual(
          [...seen],
          tensors.map(({ info }) => [info.name, info.bytes]),
        );
        await Promise.all([windows.take(), windows.take()]);
      }),
      { numRuns: 40 },
    );
  });

  it('that are neighbours are read together', async () => {
    let reads = 0;
    const counted = (tensor: StoredTensor): StoredTensor => ({ ...tensor, read: counting });
    const counting = async (target: Uint8Array, position: number) => {
      reads += 1;
      await read(target, position);
    };
    const tensors = row(new Array<number>(100).fill(4096), ['F32']).map(counted);
    for await (const { release } of readTensors(tensors, new Windows(2))) release();
    assert.equal(reads, 1);
  });

  it('give their windows back when reading fails, and when nobody wants the rest', async () => {
    const windows = new Windows(2);
    const failing = async (target: Uint8Array, position: number) => {
      if (position > WINDOW_BYTES) throw new Error('disk on fire');
      await read(target, position);
    };
    const tensors = row([WINDOW_BYTES, WINDOW_BYTES, WINDOW_BYTES], ['F32']);
    const broken = tensors.map(({ info }) => ({ info, read: failing }));
    await assert.rejects(async () => {
      for await (const { release } of readTensors(broken, windows)) release();
    }, /disk on fire/);
    for await (const { release } of readTensors(tensors, windows)) {
      release();
      break;
    }
    await Promise.all([windows.take(), windows.take()]);
  });
});
