/** Conversion in two threads: the same bytes, whatever becomes of the second one. */
import assert from 'node:assert/strict';
import { availableParallelism } from 'node:os';
import { after, describe, test } from 'node:test';
import { convertWeights } from '../../server/engine/convert-weights.js';
import { openModelFolder } from '../../server/model/model-folder.js';
import { GOLDEN } from './golden-model.js';

for (const name of ['llama', 'gpt2']) {
  describe(`weights of ${name}`, async () => {
    const folder = await openModelFolder(`${GOLDEN}models/${name}`);
    after(() => folder.close());
    const alone = await convertWeights(folder);
    assert.ok(alone.bytes.some((byte) => byte !== 0));

    test('are converted to the same bytes by two threads', async () => {
      const { bytes } = await convertWeights(folder, 0);
      assert.equal(bytes.buffer instanceof SharedArrayBuffer, availableParallelism() > 1);
      assert.deepEqual(bytes.slice(), alone.bytes);
    });

    test('are converted to the same bytes when the second thread cannot read them', async () => {
      const { bytes } = await convertWeights({ ...folder, dir: `${folder.dir}/nowhere` }, 0);
      assert.deepEqual(bytes.slice(), alone.bytes);
    });
  });
}
