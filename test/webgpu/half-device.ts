/**
 * Golden models on a device with shader-f16, where `LORAMUX_TEST_HALF_ICD` names one. It becomes this process's Vulkan device
 * before anything opens one, so test files that want it are files of their own.
 */
import { existsSync } from 'node:fs';

export type { GpuGolden } from './gpu-golden.js';

const icd = process.env.LORAMUX_TEST_HALF_ICD;

/** Why tests with 16-bit floats in shaders are skipped here; false = they run. */
export const noHalf: string | false =
  icd === undefined ? 'LORAMUX_TEST_HALF_ICD names no Vulkan device with shader-f16' : false;

if (icd !== undefined) {
  if (!existsSync(icd)) throw new Error(`LORAMUX_TEST_HALF_ICD: ${icd} does not exist`);
  process.env.VK_ICD_FILENAMES = icd;
  // lavapipe compiles shaders for vectors of four lanes three times as fast as for eight.
  process.env.LP_NATIVE_VECTOR_WIDTH ??= '128';
}

export const { goldenRows, loseDevice, openGpuGolden } = await import('./gpu-golden.js');
