/** Which device a server's models run on: the setting, and what hardware there is. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Values of the setting. */
export type DeviceSetting = 'auto' | 'cpu' | 'webgpu';

/** A decision. */
export interface DeviceChoice {
  readonly device: 'cpu' | 'webgpu';
  /** True: if the device cannot be opened, the model takes the processor instead. */
  readonly fallback: boolean;
  /** For the log and for `loramux doctor`. */
  readonly why: string;
}

/** Graphics hardware, as far as it can be told without a driver. */
export interface GraphicsHardware {
  /** One description each; empty = none was found. */
  readonly devices: readonly string[];
  /** Why the drivers that are set up are software ones; undefined = they are not. */
  readonly software: string | undefined;
}

/** What the search depends on. */
export interface HardwareSurroundings {
  /** As Node names it: linux, darwin, win32. */
  readonly platform: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Root of the file system; tests give a folder. */
  readonly root?: string | undefined;
}

/** Kernel drivers of displays that compute nothing. */
const DISPLAY_ONLY = new Set([
  'bochs-drm',
  'vgem',
  'vkms',
  'virtio_gpu',
  'virtio-pci',
  'simpledrm',
  'simple-framebuffer',
  'cirrus',
  'ast',
  'mgag200',
]);

/** Variables by which the Vulkan loader is told its drivers. */
const DRIVER_VARIABLES = ['VK_DRIVER_FILES', 'VK_ICD_FILENAMES'] as const;

/**
 * Looks for graphics hardware. On Linux the kernel's list of render nodes and NVIDIA's own are read; macOS always has
 * Metal; elsewhere nothing can be told without opening a device, so one is assumed.
 */
export function findHardware({ platform, env, root = '/' }: HardwareSurroundings): GraphicsHardware {
  const variable = DRIVER_VARIABLES.find((name) => (env[name] ?? '') !== '');
  const software =
    variable !== undefined && /swiftshader|lvp_icd|lavapipe/i.test(env[variable]!)
      ? `${variable} names a software driver`
      : undefined;
  if (platform !== 'linux') return { devices: [platform === 'darwin' ? 'Metal' : 'unknown'], software };
  const nodes = list(join(root, 'sys/class/drm')).filter((name) => name.startsWith('renderD'));
  const devices = nodes.flatMap((node) => {
    const uevent = read(join(root, 'sys/class/drm', node, 'device/uevent'));
    const field = (name: string) => uevent.match(new RegExp(`^${name}=(.*)$`, 'm'))?.[1];
    const driver = field('DRIVER') ?? 'unknown';
    return DISPLAY_ONLY.has(driver) ? [] : [`${node}: ${driver}, PCI ${field('PCI_ID') ?? 'unknown'}`];
  });
  const nvidia = join(root, 'proc/driver/nvidia/gpus');
  for (const gpu of list(nvidia)) {
    const model = read(join(nvidia, gpu, 'information')).match(/^Model:\s*(.+)$/m)?.[1];
    devices.push(`${model ?? 'NVIDIA'} at ${gpu}`);
  }
  return { devices, software };
}

/**
 * Decides.
 * @param taken true: another model of this process runs on the device; the provider's sessions must stay on one thread
 * @param failed what became of a model of this process that was on the device; absent = nothing bad
 * @throws RangeError when what is asked for is impossible
 */
export function chooseDevice(
  setting: DeviceSetting,
  taken: boolean,
  hardware: GraphicsHardware,
  failed?: string,
): DeviceChoice {
  const cpu = (why: string): DeviceChoice => ({ device: 'cpu', fallback: false, why });
  if (setting === 'cpu') return cpu('asked for');
  const shared = "another model is on the device, and the provider's sessions must not run on several threads";
  if (setting === 'webgpu') {
    if (taken) throw new RangeError(`${shared}; serve one model on it`);
    return { device: 'webgpu', fallback: false, why: 'asked for' };
  }
  if (taken) return cpu(shared);
  if (failed !== undefined) return cpu(`another model has left the device: ${failed}`);
  if (hardware.software !== undefined) return cpu(hardware.software);
  if (hardware.devices.length === 0) return cpu('no graphics hardware was found');
  return { device: 'webgpu', fallback: true, why: `found ${hardware.devices.join('; ')}` };
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch {
    return [];
  }
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
