/** Finds the largest logits of a step on the device, so that the logits themselves need not leave it. See decisions/0091. */

import { buildPicksGraph, PICK_COLUMNS, picksNames } from '../../model/webgpu/picks-graph.js';
import type { LargestLogits } from '../backend.js';
import type * as ort from '../ort.js';
import type { GpuDevice, GpuSession, GpuTensor } from './gpu-device.js';

/** Finds the largest logits of rows. */
export class GpuPicks {
  readonly #session: GpuSession;
  readonly #vocabSize: number;

  private constructor(session: GpuSession, vocabSize: number) {
    this.#session = session;
    this.#vocabSize = vocabSize;
  }

  static async open(
    device: GpuDevice,
    vocabSize: number,
    options?: ort.InferenceSession.SessionOptions,
  ): Promise<GpuPicks> {
    return new GpuPicks(await device.session(buildPicksGraph(vocabSize), false, options), vocabSize);
  }

  /** @param logits // [rows, vocab], float32, on the device */
  async of(logits: GpuTensor): Promise<LargestLogits> {
    const outputs = await this.#session.run({ [picksNames.logits]: logits }, { [picksNames.picks]: null });
    return largestOf(outputs[picksNames.picks]!.data as Float32Array, this.#vocabSize);
  }
}

/**
 * @param picks // [rows, PICK_COLUMNS]
 * @returns A row with a logit of NaN or plus infinity has NaN for its largest, and -1 for its id: which number a shader
 * takes for the larger one beside NaN is the device's choice, but NaN in the sum stays.
 */
function largestOf(picks: Float32Array, vocabSize: number): LargestLogits {
  const rows = picks.length / PICK_COLUMNS;
  const ids: number[] = [];
  const [logits, logprobs] = [new Float32Array(rows), new Float32Array(rows)];
  for (let row = 0; row < rows; row += 1) {
    const [id, logit, norm] = picks.subarray(row * PICK_COLUMNS, (row + 1) * PICK_COLUMNS);
    const found = id! < vocabSize && Number.isFinite(norm);
    ids.push(found ? id! : -1);
    logits[row] = found ? logit! : Number.NaN;
    logprobs[row] = found ? -norm! : Number.NaN;
  }
  return { ids, logits, logprobs };
}
