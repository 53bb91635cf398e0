import assert from 'node:assert/strict';
import { test } from 'node:test';

test('16-bit floats are handed over as the native library reads them, whatever arrays the runtime has', async () => {
  const scope = globalThis as { Float16Array?: unknown };
  // A release of Node without them has none that onnxruntime could take.
  scope.Float16Array ??= class Float16Array extends Uint16Array {};
  const before = scope.Float16Array;
  const { Tensor } = await import('../../server/engine/ort.js');
  assert.equal(new Tensor('float16', new Uint16Array([0x3c00]), [1]).data.constructor, Uint16Array);
  assert.equal(scope.Float16Array, before, 'others still find it');
});
