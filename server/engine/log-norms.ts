/** The normalisers of log-probabilities for the rows of a step, by onnxruntime: four times as fast as a loop in JavaScript. */
import * as ort from 'onnxruntime-node';
import { GraphBuilder } from '../model/onnx-graph.js';

/** Computes ln(sum(exp(logits))) row by row; its session is made when it is first needed. */
export class LogNorms {
  #session: Promise<ort.InferenceSession> | undefined;

  /**
   * @param logits [rows, vocab]
   * @returns [rows]; what rows of NaN have means nothing
   */
  async of(logits: Float32Array, vocabSize: number): Promise<Float32Array> {
    this.#session ??= openSession();
    const session = await this.#session;
    const feeds = { logits: new ort.Tensor('float32', logits, [logits.length / vocabSize, vocabSize]) };
    const outputs = await session.run(feeds);
    return outputs[session.outputNames[0]!]!.data as Float32Array;
  }
}

function openSession(): Promise<ort.InferenceSession> {
  const graph = new GraphBuilder();
  const logits = graph.input('logits', 'float32', ['rows', 'vocab']);
  const norms = graph.op('ReduceLogSumExp', [logits, graph.ints([1])], { keepdims: 0 });
  graph.output(norms, 'float32', ['rows']);
  return ort.InferenceSession.create(graph.finish('log-norms'), {
    executionProviders: ['cpu'],
    logSeverityLevel: 3,
    // Its threads must not wait for work on cores that the model's session is using.
    extra: { session: { intra_op: { allow_spinning: '0' } } },
  });
}
