/**
 * onnxruntime, as all of the engine loads it. Its JavaScript part hands 16-bit floats to the native one as a `Float16Array`
 * where the runtime has that (Node 24), and the native part, as of 1.30, finds no bytes in it: "not enough space: expected
 * 9216, got 0". It looks for one when the first tensor is made, so that is done here while there is none; then 16-bit floats
 * are `Uint16Array`s on every release, going in and coming out.
 */
import { Tensor } from 'onnxruntime-node';

const scope = globalThis as { Float16Array?: unknown };
const { Float16Array } = scope;
if (Float16Array !== undefined) {
  const own = Object.getOwnPropertyDescriptor(scope, 'Float16Array')!;
  delete scope.Float16Array;
  try {
    new Tensor('float32', new Float32Array(1), [1]);
  } finally {
    Object.defineProperty(scope, 'Float16Array', own);
  }
}

export { env, InferenceSession, listSupportedBackends, Tensor } from 'onnxruntime-node';
