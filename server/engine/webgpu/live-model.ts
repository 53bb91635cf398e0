/** The model on the device, put on it anew when it fails; or the reason why that could not be done. */
import { AppError } from '../../errors.js';
import type { ModelFolder } from '../../model/model-folder.js';
import { StoreLost } from '../backend.js';
import { StepMarks } from '../step-marks.js';
import { DeviceClosed } from './gpu-device.js';
import { deviceFailed, firstLine, gpuFault } from './gpu-faults.js';
import { GpuModel, type GpuModelOptions } from './gpu-model.js';

/** Pauses between attempts: a driver that was reset, or a machine that woke up, may need some seconds. */
const REOPEN_PAUSES_MS: readonly number[] = [250, 750, 2000];

/** A model on a device that is opened again when it fails. */
export class LiveModel {
  readonly #folder: ModelFolder;
  readonly #options: GpuModelOptions;
  /** Digests of the adapters that are loaded, as the residency keeps them. */
  readonly #loaded: Set<string>;
  #model: GpuModel;
  /** Under way while the model is put on the device anew. It never rejects: {@link broken} tells. */
  #restart: Promise<void> | undefined;
  #closed = false;
  /** How often the model was put on the device anew. */
  restarts = 0;
  /** Why it could not be; absent = it is there. */
  broken: Error | undefined;

  private constructor(folder: ModelFolder, options: GpuModelOptions, loaded: Set<string>, model: GpuModel) {
    this.#folder = folder;
    this.#options = options;
    this.#loaded = loaded;
    this.#model = model;
  }

  /** Puts the model on the device. Throws when there is none, or when it has too little memory. */
  static async open(folder: ModelFolder, options: GpuModelOptions): Promise<LiveModel> {
    const loaded = new Set<string>();
    return new LiveModel(folder, options, loaded, await GpuModel.open(folder, options, loaded));
  }

  /** As it is on the device now, or was. */
  get model(): GpuModel {
    return this.#model;
  }

  /** The model as soon as it can run. Throws AppError DEVICE_FAILED when it never will. */
  async ready(): Promise<GpuModel> {
    await this.#restart;
    if (this.broken !== undefined) throw new AppError('DEVICE_FAILED', this.broken.message);
    if (this.#closed) throw new AppError('ENGINE_FAILED', 'the engine was closed');
    return this.#model;
  }

  /**
   * What to tell those whose step or upload failed, or was not run because somebody else's had failed: then StoreLost.
   * Whatever the device's failure was, the model is put on it anew first: a failed run may leave buffers that hold nothing in the provider's pools, and who hears of it can ask again at once.
   * @param model on which it failed
   */
  async failed(error: unknown, model: GpuModel): Promise<Error> {
    const { kind, message } = gpuFault(error);
    if (kind === 'own') return error as Error;
    // An error of a device that is gone already says nothing of the one that took its place.
    const gone = error instanceof DeviceClosed && !model.device.closed;
    if (model === this.#model && !gone && !this.#closed) {
      const { marks = new StepMarks() } = this.#options;
      this.#restart ??= marks
        .open(() => this.#reopen(model))
        .finally(() => {
          this.#restart = undefined;
        });
      await this.#restart;
    }
    if (this.broken !== undefined)
      return new AppError('DEVICE_FAILED', `${message}; ${this.broken.message}`, { cause: error });
    return error instanceof DeviceClosed ? new StoreLost(message) : deviceFailed(message, error);
  }

  /** Frees everything, when what is under way has ended. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#restart;
    await this.#model.close();
  }

  async #reopen(failed: GpuModel): Promise<void> {
    await failed.device.close();
    let last: unknown;
    for (const pause of [0, ...(this.#options.reopenPausesMs ?? REOPEN_PAUSES_MS)]) {
      await new Promise((resolve) => setTimeout(resolve, pause));
      if (this.#closed) return;
      try {
        this.#model = await GpuModel.open(this.#folder, this.#options, this.#loaded);
        this.restarts += 1;
        return;
      } catch (error) {
        last = error;
      }
    }
    this.broken = new Error(`the graphics device could not be opened again: ${firstLine((last as Error).message)}`);
  }
}
