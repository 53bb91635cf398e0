/** `loramux doctor`: what is here, what `--device auto` makes of it, and whether the server answers rightly. */

import { composeServer } from '../compose.js';
import type { ServeConfig } from '../config/serve-config.js';
import { exactWeightBytes } from '../engine/integer-check.js';
import * as ort from '../engine/ort.js';
import { chooseDevice, findHardware } from '../engine/webgpu/choose-device.js';
import { chooseFloats } from '../engine/webgpu/choose-floats.js';
import { createLogger } from '../observe/logger.js';
import { findGpu, type SelfStart } from './gpu-findings.js';
import { describeMachine } from './machine.js';
import type { DoctorReport } from './report.js';
import { selfTest } from './self-test.js';

/** What the report depends on. */
export interface DoctorSurroundings {
  /** As Node names them. */
  readonly platform: string;
  readonly architecture: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly versions: { readonly loramux: string; readonly node: string };
  readonly self: SelfStart;
}

/** @param demo how the embedded demo model is served for the self-test */
export async function examine(demo: ServeConfig, surroundings: DoctorSurroundings): Promise<DoctorReport> {
  const { platform, architecture, env, versions, self } = surroundings;
  const hardware = findHardware({ platform, env });
  const gpu = await findGpu(self, hardware.software);
  const silent = createLogger('silent', { write: () => {} });
  const test = await selfTest(demo.models[0]!.path, () => composeServer(demo, silent, hardware));
  return {
    healthy: test.passed,
    versions: { ...versions, onnxruntime: ort.env.versions.node ?? ort.env.versions.common },
    machine: describeMachine(platform, architecture),
    providers: ort.listSupportedBackends(),
    weightBytes: await exactWeightBytes(),
    graphics: hardware.devices,
    gpu,
    ...(gpu.opened && { floats: chooseFloats('auto', 'int8', gpu.half) }),
    auto: chooseDevice('auto', false, hardware),
    selfTest: test,
  };
}
