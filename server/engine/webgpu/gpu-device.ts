/**
 * The WebGPU provider as a device with buffers. The Node binding can make device buffers only as outputs of sessions, so
 * small sessions allocate, upload and read back. Every buffer is owned by somebody and counted: nothing is freed by the
 * garbage collector.
 */

import { GraphBuilder, type Value } from '../../model/onnx-graph.js';
import type { DataTypeName } from '../../model/onnx-messages.js';
import type { GpuTensorData } from '../../model/webgpu/gpu-weights.js';
import * as ort from '../ort.js';
import { int64 } from '../step-inputs.js';
import { StepMarks } from '../step-marks.js';

/** A tensor in the device's memory. Never read its `data`: the process would end. */
export type GpuTensor = ort.Tensor;

/**
 * What runs the graphs. `cpu` is onnxruntime's own processor provider: slow, with buffers in the host's memory, but able
 * to run the numbers (16-bit floats) that the device at hand may lack. It is for checking graphs, not for serving.
 */
export type GpuProvider = 'webgpu' | 'cpu';

/** What a buffer can hold. */
type BufferType = GpuTensorData['type'] | 'bool';

const BYTES: Readonly<Record<BufferType, number>> = { float32: 4, float16: 2, uint8: 1, bool: 1 };

/** What a run on a device that was closed throws: whoever closed it knows why, and it says nothing of the run. */
export class DeviceClosed extends Error {
  constructor() {
    super('the device is closed');
  }
}

/** A session on the device. */
export interface GpuSession {
  /**
   * Runs the graph.
   * @param fetches `null` = to the host, a tensor = into that buffer. Without it every output becomes a new buffer; then
   * the caller must {@link GpuDevice.adopt} or dispose them.
   */
  run(
    feeds: Readonly<Record<string, ort.Tensor>>,
    fetches?: Readonly<Record<string, ort.Tensor | null>>,
  ): Promise<Record<string, ort.Tensor>>;
}

/** Opens sessions, makes buffers, counts them. All of it from one thread: the provider is not safe across threads. */
export class GpuDevice {
  readonly #provider: GpuProvider;
  readonly #marks: StepMarks;
  readonly #sessions = new Set<ort.InferenceSession>();
  readonly #helpers = new Map<string, Promise<GpuSession>>();
  readonly #owned = new Map<GpuTensor, number>();
  /** Freed while a run may still read them. */
  #dying: GpuTensor[] = [];
  /** Runs and steps under way. */
  #held = 0;
  #idle: (() => void)[] = [];
  #closed = false;

  /** @param marks where runs and openings are marked */
  constructor(provider: GpuProvider = 'webgpu', marks = new StepMarks()) {
    this.#provider = provider;
    this.#marks = marks;
  }

  /** True once {@link close} was called: its buffers are gone, or go. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Buffers that are alive, and their bytes. */
  get usage(): { readonly buffers: number; readonly bytes: number } {
    let bytes = 0;
    for (const size of this.#owned.values()) bytes += size;
    return { buffers: this.#owned.size, bytes };
  }

  /**
   * Opens a graph; it is refused if any node would run on the processor.
   * @param toBuffers every output becomes a new buffer, instead of going to the host or into given ones
   */
  async session(
    bytes: Uint8Array,
    toBuffers: boolean,
    more: ort.InferenceSession.SessionOptions = {},
  ): Promise<GpuSession> {
    const onDevice = this.#provider === 'webgpu';
    // The provider keeps the device as long as any session lives: one that were made behind a close would keep it.
    const options: ort.InferenceSession.SessionOptions = {
      executionProviders: [this.#provider],
      graphOptimizationLevel: 'all',
      logSeverityLevel: 4,
      ...(toBuffers && onDevice && { preferredOutputLocation: 'gpu-buffer' as const }),
      ...(onDevice && { extra: { session: { disable_cpu_ep_fallback: '1' } } }),
      ...more,
    };
    const session = await this.#under(() => this.#marks.open(() => ort.InferenceSession.create(bytes, options)));
    this.#sessions.add(session);
    return {
      run: (feeds, fetches) =>
        this.#under(async () => {
          const outputs = this.#marks.run(() =>
            fetches === undefined
              ? session.run(feeds)
              : session.run(feeds, fetches as ort.InferenceSession.FetchesType),
          );
          return (await outputs) as Record<string, ort.Tensor>;
        }),
    };
  }

  /** Does something that {@link close} waits for. Throws DeviceClosed when it is too late. */
  async #under<T>(work: () => Promise<T>): Promise<T> {
    if (this.#closed) throw new DeviceClosed();
    const letGo = this.hold();
    try {
      return await work();
    } finally {
      letGo();
    }
  }

  /** Copies values from the host into a new buffer. A tensor without elements stays on the host: it needs no memory. */
  async upload(type: BufferType, data: GpuTensorData['data'], dims: readonly number[]): Promise<GpuTensor> {
    const tensor = new ort.Tensor(type as 'float32', data as Float32Array, dims);
    if (data.length === 0) return tensor;
    const session = await this.#helper(`upload.${type}`, (graph) => {
      const flat = graph.input('x', type as DataTypeName, ['count']);
      graph.output(graph.op('Reshape', [flat, graph.input('shape', 'int64', ['rank'])]), type as DataTypeName, ['any']);
    });
    const flat = new ort.Tensor(type as 'float32', data as Float32Array, [data.length]);
    const [buffer] = Object.values(await session.run({ x: flat, shape: int64(dims) }));
    return this.adopt(buffer!);
  }

  /** A buffer of zeros. */
  async zeros(type: 'float32' | 'float16', dims: readonly number[]): Promise<GpuTensor> {
    const session = await this.#helper(`zeros.${type}`, (graph) => {
      graph.output(emitZeros(graph, type, graph.input('shape', 'int64', ['rank'])), type, ['any']);
    });
    const [buffer] = Object.values(await session.run({ shape: int64(dims) }));
    return this.adopt(buffer!);
  }

  /** Reads a float32 buffer back. For tests and checks: a step never does. */
  async read(tensor: GpuTensor): Promise<Float32Array> {
    const session = await this.#helper(`read.${tensor.dims.length}`, (graph) => {
      const dims = tensor.dims.map((_, i) => `d${i}`);
      graph.output(graph.op('Identity', [graph.input('x', 'float32', dims)]), 'float32', dims);
    });
    const [output] = Object.values(await session.run({ x: tensor }));
    return output!.data as Float32Array;
  }

  /** Takes over an output buffer: it is counted until it is freed. */
  adopt(tensor: GpuTensor): GpuTensor {
    if (tensor.location !== 'gpu-buffer') return tensor;
    this.#owned.set(tensor, tensor.size * BYTES[tensor.type as BufferType]);
    return tensor;
  }

  /** Gives a buffer's memory back. Harmless for tensors that are no buffers, or were freed before. */
  free(tensor: GpuTensor | undefined): void {
    if (tensor === undefined || !this.#owned.delete(tensor)) return;
    if (this.#held > 0) this.#dying.push(tensor);
    else tensor.dispose();
  }

  /**
   * Keeps buffers that are freed from now on until the returned function is called: a run starts some time after it was
   * asked for, and messages are handled in between.
   */
  hold(): () => void {
    this.#held += 1;
    return () => {
      this.#held -= 1;
      if (this.#held > 0) return;
      for (const tensor of this.#dying) tensor.dispose();
      this.#dying = [];
      for (const resolve of this.#idle) resolve();
      this.#idle = [];
    };
  }

  /** Frees all buffers and ends all sessions, when what is under way has ended. */
  async close(): Promise<void> {
    this.#closed = true;
    while (this.#held > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
    // What ran last is taken over by then, and freed with the rest.
    await new Promise((resolve) => setImmediate(resolve));
    for (const tensor of this.#owned.keys()) tensor.dispose();
    this.#owned.clear();
    // After a device was lost, releasing may fail as well; there is nothing left to save then.
    await Promise.allSettled([...this.#sessions].map((session) => session.release()));
    this.#sessions.clear();
  }

  /** A small session, made when it is first needed. */
  #helper(name: string, emit: (graph: GraphBuilder) => void): Promise<GpuSession> {
    let helper = this.#helpers.get(name);
    if (helper === undefined) {
      const graph = new GraphBuilder();
      emit(graph);
      helper = this.session(graph.finish(name), !name.startsWith('read'));
      this.#helpers.set(name, helper);
    }
    return helper;
  }
}

/** Zeros of a shape, a 1-D int64 value. */
export function emitZeros(graph: GraphBuilder, type: 'float32' | 'float16', shape: Value): Value {
  const zero = graph.scalar(0);
  return graph.op('Expand', [type === 'float16' ? graph.op('Cast', [zero], { to: 10 }) : zero, shape]);
}
