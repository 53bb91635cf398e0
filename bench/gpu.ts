/**
 * `npm run bench -- gpu [--model DIR --adapters DIR] [--adapter-counts 1,8,64] [--rows 64] [--steps 30] [--kv plain|paged] [--save]`
 *
 * A model on a WebGPU device beside the same on the processor, in one run: decode and prefill, and what adapters cost.
 * On a device made of software only dispatches are counted: its speed says nothing of a GPU.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import type { BoundAdapter } from '../server/adapters/types.js';
import type { StepBackend } from '../server/engine/backend.js';
import { EmbeddingTable } from '../server/engine/embedding-table.js';
import { openBackend } from '../server/engine/open-backend.js';
import { BASE_ROW, combine } from '../server/engine/row-adapter.js';
import type { KvSetting } from '../server/engine/webgpu/choose-attention.js';
import { findHardware } from '../server/engine/webgpu/choose-device.js';
import { GpuRunner } from '../server/engine/webgpu/gpu-runner.js';
import { supportsHalf } from '../server/engine/webgpu/half-support.js';
import { openModelFolder } from '../server/model/model-folder.js';
import { DEMO_ADAPTERS, DEMO_MODEL } from './demo.js';
import { readFlags } from './flags.js';
import { countDispatches, countPicks } from './gpu-dispatches.js';
import { percentile } from './load.js';
import { readAdapter } from './local-engine.js';
import { makeAdapters } from './many-adapters.js';
import { tell } from './progress.js';
import { machineName, publish } from './result.js';

/** Tokens of the prompt that the prefill is measured with. */
const PROMPT_TOKENS = 128;

export async function run(args: string[]): Promise<void> {
  const values = readFlags(args, {
    model: DEMO_MODEL,
    adapters: DEMO_ADAPTERS,
    'adapter-counts': [1, 8, 64],
    rows: 64,
    steps: 30,
    kv: 'plain',
    save: false,
  });
  const counts = values['adapter-counts'];
  const folder = await openModelFolder(values.model);
  const place = mkdtempSync(`${tmpdir()}/loramux-gpu-`);
  try {
    const adapters: BoundAdapter[] = [];
    for (const made of makeAdapters(values.adapters, place, Math.max(...counts)))
      adapters.push(await readAdapter(folder, made));
    const half = await supportsHalf();
    const precision = { half, bits: undefined } as const;
    const dispatches: string[] = [];
    const count = async (label: string, of: readonly BoundAdapter[]) => {
      tell(`counting dispatches: ${label}`);
      const [counted] = await countDispatches(folder, [of], 8, precision);
      const { total, layer } = counted!;
      dispatches.push(`${label}: ${layer.dispatches} a layer, ${total.dispatches} in all`);
      return [label, layer.dispatches, total.dispatches, layer.nodes, total.nodes];
    };
    const counted = [
      await count('base rows', []),
      await count('8 rows of one adapter', adapters.slice(0, 1)),
      await count('8 rows of 8 adapters', adapters.slice(0, 8)),
    ];
    const picks = await countPicks(folder.spec.vocabSize, 8);
    counted.push(['8 greedy rows: more, for their largest logits', 0, picks.dispatches, 0, picks.nodes]);
    dispatches.push(`greedy rows: ${picks.dispatches} more, for their largest logits`);
    const { devices, software } = findHardware({ platform: process.platform, env: process.env });
    const shared = {
      name: 'gpu',
      command: `npm run bench -- gpu${values.model === DEMO_MODEL ? '' : ' --model DIR --adapters DIR'}`,
      machine: machineName(),
    };
    const counting = `Shaders that a decode step gives to the device, and nodes of its graph, by onnxruntime's profile; ${folder.spec.layers.length} layers.`;
    if (software !== undefined || devices.length === 0) {
      publish(
        {
          ...shared,
          title: 'WebGPU: dispatches of a decode step',
          method: counting,
          columns: ['rows', 'dispatches a layer', 'dispatches in all', 'nodes a layer', 'nodes in all'],
          rows: counted,
          notes: ['No GPU was measured: the device was made of software, so its times say nothing and are left out.'],
        },
        values.save,
      );
      return;
    }
    const table = await EmbeddingTable.read(folder);
    const gpu = await GpuRunner.open(folder, table, {
      precision,
      kv: values.kv as KvSetting,
      adapterBytes: Number.POSITIVE_INFINITY,
    });
    const cpu = await openBackend(folder, { dtype: 'fp32', threads: availableParallelism(), lora: true });
    const rows: (string | number)[][] = [];
    for (const [device, backend] of [
      [devices[0]!, gpu],
      ['processor, fp32', cpu],
    ] as const) {
      for (const adapter of adapters) await backend.load(adapter);
      rows.push(...(await measure(device, backend, adapters, counts, values.rows, values.steps)));
      await backend.close();
    }
    publish(
      {
        ...shared,
        title: 'WebGPU beside the processor',
        method: `Decode steps of ${values.rows} rows with whole logits, adapters in turns over the rows; prefill of ${PROMPT_TOKENS} tokens. Activations in ${half ? 'fp16' : 'fp32'}; ${gpu.model.attention.how}.`,
        columns: ['device', 'load', 'tokens/s', 'of base'],
        rows,
        notes: [counting, ...dispatches],
      },
      values.save,
    );
  } finally {
    await folder.close();
    rmSync(place, { recursive: true });
  }
}

/** Lines of one device: decode by number of adapters, then prefill. */
async function measure(
  device: string,
  backend: StepBackend,
  adapters: readonly BoundAdapter[],
  counts: readonly number[],
  rows: number,
  steps: number,
): Promise<(string | number)[][]> {
  const decode = async (active: readonly BoundAdapter[], greedy = false): Promise<number> => {
    const store = backend.createStore(rows, PROMPT_TOKENS + steps + 8);
    const choices = active.map((adapter) => combine([{ adapter, weight: 1 }]));
    const times: number[] = [];
    for (let step = 0; step < steps + 3; step += 1) {
      const slots = Array.from({ length: rows }, (_, i) => ({
        token: 1 + (i % 50),
        length: step,
        adapter: choices[i % choices.length] ?? BASE_ROW,
        horizon: PROMPT_TOKENS + steps,
      }));
      const from = performance.now();
      if (greedy) await backend.decodeGreedy!(slots, store);
      else await backend.decode(slots, store);
      // The first ones compile shaders and fill buffers.
      if (step >= 3) times.push(performance.now() - from);
    }
    store.release();
    return (rows / percentile(times, 0.5)) * 1000;
  };
  const prefill = async (): Promise<number> => {
    const ids = Array.from({ length: PROMPT_TOKENS }, (_, i) => 1 + (i % 200));
    const times: number[] = [];
    for (let turn = 0; turn < 6; turn += 1) {
      const store = backend.createStore(1, PROMPT_TOKENS);
      const from = performance.now();
      await backend.prefill(ids, 0, store, BASE_ROW, [PROMPT_TOKENS - 1]);
      if (turn > 0) times.push(performance.now() - from);
      store.release();
    }
    return (PROMPT_TOKENS / percentile(times, 0.5)) * 1000;
  };
  const base = await decode([]);
  const share = (speed: number) => `${((speed / base) * 100).toFixed(0)} %`;
  const lines: (string | number)[][] = [[device, `decode, ${rows} base rows`, base.toFixed(0), '100 %']];
  const greedy = await decode([], true);
  lines.push([device, 'the same, the largest logits only', greedy.toFixed(0), share(greedy)]);
  for (const count of counts) {
    const speed = await decode(adapters.slice(0, count));
    lines.push([device, `decode, ${count} adapters`, speed.toFixed(0), share(speed)]);
  }
  lines.push([device, `prefill, ${PROMPT_TOKENS} base tokens`, (await prefill()).toFixed(0), '']);
  return lines;
}
