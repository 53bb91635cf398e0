/** The weights of all tokens for the rows of a step that draw from them, by onnxruntime: many times as fast as JavaScript. */

import { LogitsSession } from './logits-session.js';
import * as ort from './ort.js';

/** Computes e^((logit - largest) / temperature) over its sum, row by row. */
export class StepWeights {
  readonly #session = new LogitsSession('step-weights', (graph, logits) => {
    const temperatures = graph.input('temperatures', 'float32', ['rows', 1]);
    // Differences first: a small temperature would round logits that lie close together to the same number.
    const largest = graph.op('ReduceMax', [logits, graph.ints([1])], { keepdims: 1 });
    const scaled = graph.op('Div', [graph.op('Sub', [logits, largest]), temperatures]);
    graph.output(graph.op('Softmax', [scaled], { axis: 1 }), 'float32', ['rows', 'vocab']);
  });

  /**
   * @param logits [rows, vocab]
   * @param temperatures [rows], each > 0
   * @returns probabilities [rows, vocab]; what rows of NaN have means nothing
   */
  of(logits: Float32Array, temperatures: readonly number[]): Promise<Float32Array> {
    const rows = temperatures.length;
    return this.#session.run(logits, rows, {
      temperatures: new ort.Tensor('float32', Float32Array.from(temperatures), [rows, 1]),
    });
  }
}
