/** Parts of the WebGPU backend that need no device: graphs' sizes, number formats, the choice of a device. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { openOnDevice } from '../../server/engine/open-device.js';
import { chooseDevice, findHardware } from '../../server/engine/webgpu/choose-device.js';
import { DeviceClosed, GpuDevice } from '../../server/engine/webgpu/gpu-device.js';
import { gpuFault } from '../../server/engine/webgpu/gpu-faults.js';
import { GraphBuilder } from '../../server/model/onnx-graph.js';
import { lengthDelimited } from '../../server/model/packed-entries.js';
import { allLinears, allNorms } from '../../server/model/spec.js';
import { buildGpuGraph } from '../../server/model/webgpu/gpu-graph.js';
import { toHalf } from '../../server/model/webgpu/gpu-precision.js';
import { groupWeights, weightInputs } from '../../server/model/webgpu/gpu-weights.js';
import { allGroups, groupOf } from '../../server/model/webgpu/linear-groups.js';
import { GOLDEN_MODELS, openGolden } from '../engine/golden-model.js';

/** Number of nodes of a serialised model. */
function nodes(model: Uint8Array): number {
  const graph = lengthDelimited(model, 7)[0]!;
  return lengthDelimited(graph, 1).length;
}

test('adapters cost four nodes for each linear group, and a base step none', async () => {
  for (const name of GOLDEN_MODELS) {
    const model = await openGolden(name, []);
    const { spec } = model.folder;
    const small = new Map<string, Float32Array>();
    for (const { weight, bias, width } of allNorms(spec))
      for (const tensor of [weight, bias]) if (tensor !== undefined) small.set(tensor, new Float32Array(width));
    for (const { bias, outFeatures } of allLinears(spec))
      if (bias !== undefined) small.set(bias, new Float32Array(outFeatures));
    const build = (variant: 'base' | 'lora') => buildGpuGraph(spec, variant, { half: false, bits: undefined }, small);
    const [base, lora] = [build('base'), build('lora')];
    const groups = allGroups(spec).length;
    assert.equal(groups, spec.layers.length * 4 + 1);
    assert.equal(nodes(lora.bytes) - nodes(base.bytes), 4 * groups, name);
    assert.ok(![...base.inputs].some((input) => /^(a|b|mine|weights)\./.test(input)));
    await model.close();
  }
});

test('weights in blocks of 8 and 4 bits come back within half a step, whatever the orientation', async () => {
  const linears = [
    { module: 'x', weight: 'x', inFeatures: 40, outFeatures: 2 },
    { module: 'y', weight: 'y', inFeatures: 40, outFeatures: 1, conv1d: true },
  ];
  const group = groupOf(linears);
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.float({ noNaN: true, min: -4, max: 4 }), { minLength: 120, maxLength: 120 }),
      async (values) => {
        const weights = new Map([
          ['x', Float32Array.from(values.slice(0, 80))],
          // One output, so that [in, out] and [out, in] are the same numbers in the same order.
          ['y', Float32Array.from(values.slice(80))],
        ]);
        const checkpoint = { readFloat32: async (name: string) => weights.get(name)! };
        for (const bits of [8, 4] as const) {
          const tensors = await groupWeights(checkpoint, group, { half: false, bits });
          const [q, scales] = [weightInputs.weight(group), weightInputs.scales(group)].map(
            (name) => tensors.get(name)!,
          );
          assert.deepEqual([q!.dims, scales!.dims], [[3, 2, 4 * bits], [6]]);
          for (const [i, value] of values.entries()) {
            const block = Math.floor(i / 40) * 2 + Math.floor((i % 40) / 32);
            const at = block * 32 + ((i % 40) % 32);
            const level = bits === 8 ? q!.data[at]! : (q!.data[at >> 1]! >> ((at & 1) * 4)) & 15;
            const scale = scales!.data[block]!;
            const error = Math.abs((level - 2 ** (bits - 1)) * scale - value);
            // The side opposite to the largest value ends one step earlier.
            assert.ok(error <= Math.abs(scale) * 1.001 + 1e-6, `${value} became ${level}`);
          }
        }
      },
    ),
    { numRuns: 30 },
  );
});

test('16-bit floats are the nearest ones, and values beyond their range are refused', () => {
  const bits = (value: number) => toHalf(Float32Array.of(value), 'x')[0];
  assert.deepEqual([0, 1, -2, 65504, 2 ** -24, 2 ** -14, 1 + 2 ** -11].map(bits), [
    ...[0, 0x3c00, 0xc000, 0x7bff, 1, 0x0400, 0x3c00],
  ]);
  assert.throws(() => toHalf(Float32Array.of(1, 70_000), 'layer 3'), /layer 3: 70000 is beyond the range/);
});

test('4 bits a weight are refused on the processor, also where auto falls back to it', async () => {
  const model = await openGolden('qwen3', []);
  const options = { dtype: 'int4', threads: 1, lora: true } as const;
  await assert.rejects(openOnDevice(model.folder, options), /dtype int4 is for WebGPU.*int8 would be right/);
  const device = { device: 'cpu', fallback: false, why: 'no graphics hardware was found' } as const;
  await assert.rejects(openOnDevice(model.folder, { ...options, device }), /no graphics hardware was found/);
  await model.close();
});

test('auto takes a GPU only where there is hardware and no software driver', () => {
  const root = mkdtempSync(join(tmpdir(), 'loramux-gpu-'));
  try {
    const find = (env = {}) => findHardware({ platform: 'linux', env, root });
    assert.equal(chooseDevice('auto', false, find()).device, 'cpu');
    const node = (name: string, uevent: string) => {
      mkdirSync(join(root, 'sys/class/drm', name, 'device'), { recursive: true });
      writeFileSync(join(root, 'sys/class/drm', name, 'device/uevent'), uevent);
    };
    node('renderD128', 'DRIVER=vgem\n');
    assert.equal(chooseDevice('auto', false, find()).device, 'cpu');
    node('renderD129', 'DRIVER=amdgpu\nPCI_ID=1002:744C\n');
    const choice = chooseDevice('auto', false, find());
    assert.deepEqual([choice.device, choice.fallback], ['webgpu', true]);
    assert.match(choice.why, /amdgpu, PCI 1002:744C/);
    const software = find({ VK_ICD_FILENAMES: '/x/vk_swiftshader_icd.json' });
    assert.equal(chooseDevice('auto', false, software).device, 'cpu');
    assert.equal(chooseDevice('webgpu', false, software).device, 'webgpu');
    assert.equal(chooseDevice('auto', true, find()).device, 'cpu');
    const left = chooseDevice('auto', false, find(), 'it was lost');
    assert.deepEqual(left, { device: 'cpu', fallback: false, why: 'another model has left the device: it was lost' });
    assert.throws(() => chooseDevice('webgpu', true, find()), /another model is on the device/);
  } finally {
    rmSync(root, { recursive: true });
  }
});

test('a device that closes waits for what is under way, and takes up nothing more', async () => {
  const device = new GpuDevice('cpu');
  const graph = new GraphBuilder();
  graph.output(graph.op('Add', [graph.input('x', 'float32', ['n']), graph.scalar(1)]), 'float32', ['n']);
  const bytes = graph.finish('one-more');
  const order: string[] = [];
  const opening = device.session(bytes, false).finally(() => order.push('opened'));
  const closing = device.close().then(() => order.push('closed'));
  assert.ok(device.closed);
  const session = await opening;
  await closing;
  assert.deepEqual(order, ['opened', 'closed']);
  await assert.rejects(session.run({}), DeviceClosed);
  await assert.rejects(device.session(bytes, false), DeviceClosed);
});

test('errors of the provider are told apart', () => {
  assert.equal(gpuFault(new Error('WebGPU device lost (2): reset')).kind, 'lost');
  assert.equal(gpuFault(new Error('WebGPU validation failed. [Invalid Buffer (unlabeled)] is invalid')).kind, 'memory');
  const large = 'WebGPU validation failed. Buffer size (1153433600) exceeds the max buffer size limit (1073741824).';
  assert.equal(gpuFault(new Error(large)).kind, 'memory');
  assert.equal(gpuFault(new Error('Non-zero status code returned while running Add node')).kind, 'refused');
  const absent =
    '/src/webgpu_context.cc:136 f() status == X was false. Failed to get a WebGPU adapter: No supported adapters';
  assert.match(
    gpuFault(new Error(absent)).message,
    /^no graphics device can be opened \(Failed to get a WebGPU adapter: No supported adapters\); docs/,
  );
  assert.equal(gpuFault(new RangeError('layer 3: 70000 is beyond the range')).kind, 'own');
  assert.equal(gpuFault(new Error('something else\nmore')).message, 'the graphics device refused this: something else');
});
