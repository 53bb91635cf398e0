/** Conversion in two threads: the same bytes, whatever becomes of the second one. */
import assert from 'node:assert/strict';
import { availableParallelism } from 'node:os';
import { after, describe, test } from 'node:test';
import { convertWeights } from '../../server/engine/convert-weights.js';
import { openModelFolder } from '../../server/model/model-folder.js';
import { linearGroups } from '../../server/model/spec.js';
import { GOLDEN } from './golden-model.js';

for (const name of ['llama', 'gpt2']) {
  describe(`weights of ${name}`, async () => {
    const folder = await openModelFolder(`${GOLDEN}models/${name}`);
    after(() => folder.close());
    const alone = await convertWeights(folder, 'signed');
    assert.ok(alone.bytes.some((byte) => byte !== 0));

    test('are converted to the same bytes by two threads', async () => {
      const { bytes } = await convertWeights(folder, 'signed', 0);
      assert.equal(bytes.buffer instanceof SharedArrayBuffer, availableParallelism() > 1);
      assert.deepEqual(bytes.slice(), alone.bytes);
    });

    test('are the same numbers in unsigned bytes, 128 above the signed ones', async () => {
      const unsigned = await convertWeights(folder, 'unsigned');
      for (const linears of linearGroups(folder.spec)) {
        const { weights, scales } = unsigned.group(linears);
        const bytesOf = ({ bytes }: typeof alone, { offset, length }: typeof scales) =>
          bytes.slice(offset, offset + length);
        assert.deepEqual(
          bytesOf(unsigned, weights),
          bytesOf(alone, weights).map((byte) => byte ^ 128),
        );
        assert.deepEqual(bytesOf(unsigned, scales), bytesOf(alone, scales));
      }
    });

    test('are converted to the same bytes when the second thread cannot read them', async () => {
      const { bytes } = await convertWeights({ ...folder, dir: `${folder.dir}/nowhere` }, 'signed', 0);
      assert.deepEqual(bytes.slice(), alone.bytes);
    });
  });
}
