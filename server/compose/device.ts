/** Loads models on the device that the configuration asks for. Only one at a time can be on a GPU. */
import type { Logger } from 'pino';
import type { Unkept } from '../engine/converted-weights.js';
import { chooseDevice, type DeviceSetting, type GraphicsHardware } from '../engine/webgpu/choose-device.js';
import { AppError } from '../errors.js';
import type { loadModel } from '../service/load-model.js';
import { tellStalls } from './stalls.js';

const ADVICE = '--cache-dir names another folder, --weight-cache off keeps none';
const UNKEPT = {
  converted: `converted weights cannot be kept, so every start prepares them anew: ${ADVICE}`,
  packed: `the packed form of converted weights cannot be kept, so every session packs them for itself: ${ADVICE}`,
};

/**
 * Wraps `load` so that each model goes where there is room: the device is taken while a model loads or runs on it. One
 * that failed for good under a model that has gone on elsewhere is offered to no other while the process lives: nothing
 * would tell that it has become well.
 * @param onEngines told whenever the engine threads of a model are on their way
 * @returns a function that throws what `load` throws, and MODEL_INVALID when the device is taken or missing
 */
export function onDevice(
  load: typeof loadModel,
  setting: DeviceSetting,
  hardware: GraphicsHardware,
  log: Logger,
  onEngines?: () => void,
): typeof loadModel {
  let taken = false;
  let failed: string | undefined;
  const choose = () => {
    try {
      return chooseDevice(setting, taken, hardware, failed);
    } catch (error) {
      throw new AppError('MODEL_INVALID', `--device ${setting}: ${(error as Error).message}`, { cause: error });
    }
  };
  return async (options, signal) => {
    const device = choose();
    let held = device.device === 'webgpu';
    if (held) taken = true;
    const giveBack = () => {
      if (held) taken = false;
      held = false;
    };
    try {
      const onUnkept = ({ form, ...why }: Unkept) =>
        log.warn({ model: options.name, folder: options.cacheDir, ...why }, UNKEPT[form]);
      const loaded = await load({ ...options, device }, signal, { onUnkept, onEngines });
      const { name, why } = loaded.engine.device ?? { name: device.device, why: device.why };
      log.info({ model: options.name, device: name, why }, 'model loaded');
      tellStalls(options.name, loaded.engine, log);
      loaded.engine.onMove?.(() => {
        const { name: now, why: reason } = loaded.engine.device!;
        log.warn({ model: options.name, device: now, why: reason }, 'the device failed; the model goes on elsewhere');
        failed = reason;
        giveBack();
      });
      if (name !== 'webgpu') giveBack();
      return { ...loaded, close: () => loaded.close().finally(giveBack) };
    } catch (error) {
      giveBack();
      throw error;
    }
  };
}
