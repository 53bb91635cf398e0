/** The cases of peft-cases.ts on WebGPU: vocabularies of adapters, activated ones that replace modules, trained tokens. */
import { EmbeddingTable } from '../../server/engine/embedding-table.js';
import { GpuRunner } from '../../server/engine/webgpu/gpu-runner.js';
import { testPeftCases } from '../engine/peft-cases.js';
import { everything, FP32, noGpu } from './gpu-golden.js';

testPeftCases('on WebGPU', {
  skip: noGpu,
  // Heads and Conv1D, tables of all kinds, activated adapters that replace a head or norms; SwiftShader is slow.
  ...(!everything && { models: ['llama', 'gpt2'] }),
  open: async (folder) =>
    GpuRunner.open(folder, await EmbeddingTable.read(folder), { precision: FP32, adapterBytes: 1 << 28 }),
});
