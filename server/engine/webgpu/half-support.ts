/** Whether the device computes with 16-bit floats. The binding tells no features, so a small graph is run. */

import { GraphBuilder } from '../../model/onnx-graph.js';
import * as ort from '../ort.js';
import { GpuDevice } from './gpu-device.js';

/** True when shaders with 16-bit floats run (WebGPU's `shader-f16`) and add rightly. */
export async function supportsHalf(): Promise<boolean> {
  const graph = new GraphBuilder();
  const narrow = graph.op('Cast', [graph.input('x', 'float32', ['n'])], { to: 10 });
  graph.output(graph.op('Cast', [graph.op('Add', [narrow, narrow])], { to: 1 }), 'float32', ['n']);
  const device = new GpuDevice();
  try {
    const session = await device.session(graph.finish('half'), false);
    const [output] = Object.values(await session.run({ x: new ort.Tensor('float32', Float32Array.of(1.5, -3), [2]) }));
    return [3, -6].every((value, i) => (output!.data as Float32Array)[i] === value);
  } catch (error) {
    if (/requires f16/.test((error as Error).message)) return false;
    throw error;
  } finally {
    await device.close();
  }
}
