/** Every element type against the values that llama.cpp's own package makes of the same bytes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { READABLE_TYPES } from '../../server/adapters/gguf/dequantise.js';
import { openGguf } from '../../server/adapters/gguf/gguf-file.js';

const path = fileURLToPath(new URL('../fixtures/gguf/types.gguf', import.meta.url));

for (const type of READABLE_TYPES) {
  test(`${type} is dequantised bit for bit`, async () => {
    const file = await openGguf(path);
    try {
      assert.equal(file.tensors.get(type)?.type.name, type);
      assert.deepEqual(await file.readFloat32(type), await file.readFloat32(`${type}.expected`));
    } finally {
      await file.close();
    }
  });
}
