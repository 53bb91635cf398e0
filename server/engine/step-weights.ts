/** The weights of all tokens for the rows of a step that draw from them, by onnxruntime: many times as fast as JavaScript. */
import * as ort from 'onnxruntime-node';
import { GraphBuilder } from '../model/onnx-graph.js';

/** Computes e^((logit - largest) / temperature) over its sum, row by row; its session is made when it is first needed. */
export class StepWeights {
  #session: Promise<ort.InferenceSession> | undefined;

  /**
   * @param logits [rows, vocab]
   * @param temperatures [rows], each > 0
   * @returns probabilities [rows, vocab]; what rows of NaN have means nothing
   */
  async of(logits: Float32Array, temperatures: readonly number[]): Promise<Float32Array> {
    this.#session ??= openSession();
    const session = await this.#session;
    const rows = temperatures.length;
    const feeds = {
      logits: new ort.Tensor('float32', logits, [rows, logits.length / rows]),
      temperatures: new ort.Tensor('float32', Float32Array.from(temperatures), [rows, 1]),
    };
    const outputs = await session.run(feeds);
    return outputs[session.outputNames[0]!]!.data as Float32Array;
  }
}

function openSession(): Promise<ort.InferenceSession> {
  const graph = new GraphBuilder();
  const logits = graph.input('logits', 'float32', ['rows', 'vocab']);
  const temperatures = graph.input('temperatures', 'float32', ['rows', 1]);
  // Differences first: a small temperature would round logits that lie close together to the same number.
  const largest = graph.op('ReduceMax', [logits, graph.ints([1])], { keepdims: 1 });
  const scaled = graph.op('Div', [graph.op('Sub', [logits, largest]), temperatures]);
  graph.output(graph.op('Softmax', [scaled], { axis: 1 }), 'float32', ['rows', 'vocab']);
  return ort.InferenceSession.create(graph.finish('step-weights'), {
    executionProviders: ['cpu'],
    logSeverityLevel: 3,
    // Its threads must not wait for work on cores that the model's session is using.
    extra: { session: { intra_op: { allow_spinning: '0' }, set_denormal_as_zero: '1' } },
  });
}
