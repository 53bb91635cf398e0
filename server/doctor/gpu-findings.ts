/**
 * What the WebGPU provider's device can do. The binding tells nothing of it, so small graphs are run, in a process of
 * their own: a driver that crashes takes nothing else with it, and what the provider logs can be read.
 */
import { spawn } from 'node:child_process';
import * as ort from '../engine/ort.js';
import { int64 } from '../engine/step-inputs.js';
import { GpuDevice } from '../engine/webgpu/gpu-device.js';
import { firstLine } from '../engine/webgpu/gpu-faults.js';
import { supportsHalf } from '../engine/webgpu/half-support.js';
import { GraphBuilder } from '../model/onnx-graph.js';

/** What was found; undefined where the provider does not tell. */
export type GpuFindings =
  | { readonly opened: false; readonly fault: string }
  | {
      readonly opened: true;
      /** Why it is known to be a device made of software; absent = it is not known to be one. */
      readonly software?: string | undefined;
      /** WebGPU's `shader-f16`: 16-bit floats are added rightly. */
      readonly half: boolean;
      readonly subgroups?: boolean | undefined;
      /** Most storage buffers that one shader may bind. */
      readonly storageBuffers?: number | undefined;
    };

/** A driver that does not answer in this time is given up. */
const PROBE_MS = 30_000;

/** More than most devices let a shader bind, so that the graph fails before it runs. The largest that is countable. */
const TOO_MANY = 2 ** 32 - 4;

/** How to start this program again. */
export interface SelfStart {
  readonly command: string;
  /** Arguments up to and with the program's own file. */
  readonly args: readonly string[];
}

/** Runs {@link probeHere} in a process of its own. @param software see {@link GpuFindings} */
export async function findGpu(self: SelfStart, software: string | undefined): Promise<GpuFindings> {
  const child = spawn(self.command, [...self.args, 'doctor', '--probe'], {
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: PROBE_MS,
    killSignal: 'SIGKILL',
  });
  let output = '';
  let log = '';
  child.stdout.on('data', (data) => {
    output += data;
  });
  child.stderr.on('data', (data) => {
    log += data;
  });
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (...end) => resolve(end));
  });
  if (code !== 0) {
    const how = signal === 'SIGKILL' ? `gave no answer in ${PROBE_MS / 1000} s` : `ended with ${signal ?? code}`;
    return { opened: false, fault: `the process that tried it ${how}` };
  }
  const findings = JSON.parse(output) as GpuFindings;
  if (!findings.opened) return findings;
  // The provider prints each shader; those of a device with subgroups ask for them.
  const subgroups = log.includes('@compute') ? /^\s*enable subgroups;/m.test(log) : undefined;
  return { ...findings, subgroups, software };
}

/** Opens the device in this process and logs everything to standard error. */
export async function probeHere(): Promise<GpuFindings> {
  ort.env.logLevel = 'verbose';
  const device = new GpuDevice();
  try {
    const graph = new GraphBuilder();
    graph.output(graph.op('Expand', [graph.scalar(0), graph.input('shape', 'int64', ['rank'])]), 'float32', ['any']);
    const session = await device.session(graph.finish('probe'), true, { logSeverityLevel: 0 });
    for (const output of Object.values(await session.run({ shape: int64([16]) }))) output.dispose();
    const half = await supportsHalf();
    const refusal = await session.run({ shape: int64([TOO_MANY]) }).then(
      (outputs) => {
        for (const output of Object.values(outputs)) output.dispose();
        return '';
      },
      (error: Error) => error.message,
    );
    const most = /Too many storage buffers.*Max is (\d+)/.exec(refusal)?.[1];
    return { opened: true, half, ...(most !== undefined && { storageBuffers: Number(most) }) };
  } catch (error) {
    return { opened: false, fault: firstLine((error as Error).message) };
  } finally {
    await device.close();
  }
}
