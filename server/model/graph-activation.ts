/** The activation of an MLP as graph nodes, the same for every device. */
import type { GraphBuilder, Value } from './onnx-graph.js';
import type { MlpSpec } from './spec.js';

/** Emits the activation of x, in x's shape. */
export function emitActivation(graph: GraphBuilder, x: Value, mlp: MlpSpec): Value {
  switch (mlp.activation) {
    case 'silu': // x * sigmoid(1 * x)
      return graph.contrib('QuickGelu', [x], { alpha: { float: 1 } });
    case 'gelu':
      return graph.op('Gelu', [x], { approximate: 'none' });
    case 'gelu_tanh':
      return graph.op('Gelu', [x], { approximate: 'tanh' });
    case 'relu':
      return graph.op('Relu', [x]);
    case 'relu2': {
      const positive = graph.op('Relu', [x]);
      return graph.op('Mul', [positive, positive]);
    }
  }
}
