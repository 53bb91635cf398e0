/** A small graph over the logits of a step, beside the model's own. */

import { GraphBuilder, type Value } from '../model/onnx-graph.js';
import * as ort from './ort.js';

/** Computes what `build` makes of logits [rows, vocab]; its session is made when it is first needed. */
export class LogitsSession {
  readonly #name: string;
  readonly #build: (graph: GraphBuilder, logits: Value) => void;
  #session: Promise<ort.InferenceSession> | undefined;

  /** @param build adds one output, and inputs besides the logits if it has any */
  constructor(name: string, build: (graph: GraphBuilder, logits: Value) => void) {
    this.#name = name;
    this.#build = build;
  }

  /**
   * @param logits [rows, vocab]
   * @param more the other inputs, by name
   */
  async run(logits: Float32Array, rows: number, more: Record<string, ort.Tensor> = {}): Promise<Float32Array> {
    this.#session ??= this.#open();
    const session = await this.#session;
    const outputs = await session.run({
      logits: new ort.Tensor('float32', logits, [rows, logits.length / rows]),
      ...more,
    });
    return outputs[session.outputNames[0]!]!.data as Float32Array;
  }

  #open(): Promise<ort.InferenceSession> {
    const graph = new GraphBuilder();
    this.#build(graph, graph.input('logits', 'float32', ['rows', 'vocab']));
    return ort.InferenceSession.create(graph.finish(this.#name), {
      executionProviders: ['cpu'],
      logSeverityLevel: 3,
      // Its threads must not wait for work on cores that the model's session is using. As every session of a process it
      // says what becomes of denormal numbers.
      extra: { session: { intra_op: { allow_spinning: '0' }, set_denormal_as_zero: '1' } },
    });
  }
}
