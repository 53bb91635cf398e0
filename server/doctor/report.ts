/** What `loramux doctor` finds, and how it is printed. */

import type { DeviceChoice } from '../engine/webgpu/choose-device.js';
import type { FloatChoice } from '../engine/webgpu/choose-floats.js';
import type { WeightBytes } from '../model/column-store.js';
import type { GpuFindings } from './gpu-findings.js';
import type { Machine } from './machine.js';

/** The self-test on the demo model. */
export interface SelfTest {
  /** True: every answer was PyTorch's, token for token. */
  readonly passed: boolean;
  /** Answers that were compared. */
  readonly answers: number;
  /** One for each wrong answer, or why there are none; empty when it passed. */
  readonly faults: readonly string[];
  /** Where the demo model ran, and why there; absent when it could not be started. */
  readonly device?: { readonly name: string; readonly why: string } | undefined;
  /** From the start of the server to its address, in milliseconds. */
  readonly startMs: number;
  /** Tokens per second over HTTP, by load. */
  readonly tokensPerSecond: { readonly base: number; readonly oneAdapter: number; readonly eightRowsMixed: number };
}

/** Everything. */
export interface DoctorReport {
  readonly healthy: boolean;
  readonly versions: { readonly loramux: string; readonly node: string; readonly onnxruntime: string };
  readonly machine: Machine;
  /** Providers of onnxruntime-node; `bundled` ones need nothing more, others a library that npm does not bring. */
  readonly providers: readonly { readonly name: string; readonly bundled: boolean }[];
  /** The weight bytes whose products are exact here; absent = neither, and int8 rounds weights in blocks. */
  readonly weightBytes?: WeightBytes | undefined;
  /** Graphics hardware as the system lists it. */
  readonly graphics: readonly string[];
  readonly gpu: GpuFindings;
  /** What `--device-floats auto` takes on that device beside rounded weights; absent where none could be opened. */
  readonly floats?: FloatChoice | undefined;
  /** What `--device auto` takes. */
  readonly auto: DeviceChoice;
  readonly selfTest: SelfTest;
}

/** The report for a terminal. */
export function renderReport(report: DoctorReport): string {
  const { versions, machine, providers, auto, selfTest } = report;
  const { memory, processor } = machine;
  const speeds = selfTest.tokensPerSecond;
  const lines: [string, string][] = [
    ['loramux', `${versions.loramux}, Node ${versions.node}, onnxruntime-node ${versions.onnxruntime}`],
    ['system', `${machine.system}, ${machine.architecture}`],
    ['processor', `${processor.model}, ${processor.cores} cores${limited(processor.limit)}`],
    ['instructions', processor.instructionSets?.join(' ') ?? 'cannot be read on this system'],
    ['int8', byteProducts(report.weightBytes)],
    ['memory', `${size(memory.total)}, ${size(memory.free)} free${memoryLimit(memory.limit)}`],
    ['open files', openFilesLine(machine.openFiles)],
    ['providers', providers.map(({ name, bundled }) => (bundled ? name : `${name} (not bundled)`)).join(', ')],
    ['graphics', report.graphics.join('; ') || 'no hardware found'],
    ['WebGPU', gpuLine(report.gpu)],
    ...floatLines(report.floats),
    ['--device auto', `${auto.device}: ${auto.why}${auto.fallback ? '; the processor if it cannot be opened' : ''}`],
    ['self-test', selfTestLine(selfTest)],
    ...selfTest.faults.map((fault): [string, string] => ['', fault]),
  ];
  if (selfTest.device !== undefined) {
    const figures = [
      `base ${speeds.base.toFixed(0)}`,
      `one adapter ${speeds.oneAdapter.toFixed(0)}`,
      `eight rows of six kinds ${speeds.eightRowsMixed.toFixed(0)}`,
    ];
    lines.push(['tokens/s', `${figures.join(', ')} (demo model over HTTP; of use only to compare machines)`]);
  }
  lines.push(['verdict', report.healthy ? 'healthy' : 'NOT healthy']);
  return `${lines.map(([head, text]) => `${head.padEnd(14)} ${text}`).join('\n')}\n`;
}

function selfTestLine({ passed, answers, device, startMs }: SelfTest): string {
  if (device === undefined) return 'FAILED: the demo model could not be served';
  const where = `on ${device.name} (${device.why}), up in ${(startMs / 1000).toFixed(1)} s`;
  return `${passed ? 'passed' : 'FAILED'}: ${answers} answers, base and five adapters, against PyTorch's; ${where}`;
}

const floatLines = (floats: FloatChoice | undefined): [string, string][] =>
  floats === undefined
    ? []
    : [['GPU floats', `${floats.floats} beside int8 and int4 (${floats.why}), fp32 beside fp32`]];

function gpuLine(gpu: GpuFindings): string {
  if (!gpu.opened) return `cannot be opened: ${gpu.fault}`;
  const buffers = gpu.storageBuffers === undefined ? 'not told' : String(gpu.storageBuffers);
  return [
    gpu.software === undefined ? 'opened' : `opened (${gpu.software})`,
    `shader-f16 ${yes(gpu.half)}`,
    `subgroups ${yes(gpu.subgroups)}`,
    `storage buffers a shader ${buffers}`,
  ].join(', ');
}

/** A start takes about 60; every connection is one more, and every file of a model. */
const LOW_OPEN_FILES = 1024;

function openFilesLine(limit: number | undefined): string {
  if (limit === undefined) return 'no limit that is known';
  return limit < LOW_OPEN_FILES
    ? `at most ${limit}, which is LOW: a start takes about 60, a connection one (ulimit -n 4096)`
    : `at most ${limit}`;
}

const yes = (value: boolean | undefined): string => (value === undefined ? 'not told' : value ? 'yes' : 'no');
const limited = (cores: number | undefined): string => (cores === undefined ? '' : `, limited to ${cores} by a cgroup`);
const memoryLimit = (bytes: number | undefined): string =>
  bytes === undefined ? ', no limit by a cgroup' : `, limited to ${size(bytes)} by a cgroup`;
const byteProducts = (weightBytes: WeightBytes | undefined): string =>
  weightBytes === undefined
    ? 'products of bytes saturate: weights are rounded in blocks of 32'
    : `products are exact with weights in ${weightBytes} bytes`;
const size = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(1)} GiB`;
