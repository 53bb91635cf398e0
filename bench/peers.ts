/**
 * `npm run bench -- peers [--model DIR --adapters DIR] [--dtype int8] [--tokens 64] [--words 100] [--rounds 3] [--save]
 *    [--llama-server FILE --gguf FILE --gguf-adapters DIR] [--openvino-python FILE --openvino-model DIR] [--peft-python FILE]`
 *
 * The same prompts and the same closed-loop load for us and each peer that is given, one after another, load by load, so
 * that a machine whose speed drifts treats all alike. llama.cpp answers over HTTP as we do; OpenVINO GenAI and PEFT run in a
 * process of their own without HTTP, and are held against our engine without HTTP.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import type { Dtype } from '../server/engine/decoder-session.js';
import { DEMO_ADAPTERS, DEMO_MODEL } from './demo.js';
import { LLAMA_CPP } from './dialects.js';
import { readFlags, TEXT } from './flags.js';
import { type LoadResult, prompt, runLoad } from './load.js';
import { makeAdapters } from './many-adapters.js';
import { startLlamaServer } from './peers/llama-server.js';
import { runOwnEngine } from './peers/own-engine.js';
import { type InProcessLoad, runInProcess } from './peers/python-peer.js';
import { tell } from './progress.js';
import { type BenchResult, machineName, publish } from './result.js';
import { startServer } from './server-process.js';

/** Streams, and how many different adapters they name; 0 = base. */
const LOADS = [
  { streams: 1, adapters: 0 },
  { streams: 8, adapters: 0 },
  { streams: 16, adapters: 0 },
  { streams: 1, adapters: 1 },
  { streams: 8, adapters: 1 },
  { streams: 8, adapters: 8 },
  { streams: 16, adapters: 16 },
] as const;

type Load = (typeof LOADS)[number];

export async function run(args: string[]): Promise<void> {
  const values = readFlags(args, {
    model: DEMO_MODEL,
    adapters: TEXT,
    dtype: 'int8',
    tokens: 64,
    words: 100,
    rounds: 3,
    'llama-server': TEXT,
    gguf: TEXT,
    'gguf-adapters': TEXT,
    'openvino-python': TEXT,
    'openvino-model': TEXT,
    'peft-python': TEXT,
    save: false,
  });
  const place = mkdtempSync(join(tmpdir(), 'loramux-peers-'));
  process.once('exit', () => rmSync(place, { recursive: true }));
  const folder = resolve(values.adapters ?? place);
  if (values.adapters === undefined) makeAdapters(DEMO_ADAPTERS, place, 16, 'a');
  const names = Array.from({ length: 16 }, (_, i) => `a${i}`);
  const newTokens = values.tokens;
  const promptWords = values.words;
  const load = (url: string, one: Load, dialect?: typeof LLAMA_CPP) =>
    runLoad({
      url,
      streams: one.streams,
      requests: one.streams * Math.max(values.rounds, one.streams === 1 ? 6 : 0),
      maxNewTokens: newTokens,
      promptWords,
      adapters: names.slice(0, one.adapters),
      ...(dialect !== undefined && { dialect }),
    });

  const ours: LoadResult[] = [];
  const llama: (LoadResult | undefined)[] = [];
  const server = await startServer(['--model', values.model, '--adapters', folder, '--dtype', values.dtype]);
  try {
    for (const one of LOADS) {
      ours.push(await load(server.url, one));
      tell(`${label(one)}: loramux ${ours.at(-1)!.tokensPerSecond.toFixed(1)} tokens/s`);
      const { 'llama-server': binary, gguf, 'gguf-adapters': ggufAdapters } = values;
      if (binary === undefined || gguf === undefined || ggufAdapters === undefined) {
        llama.push(undefined);
        continue;
      }
      // Its request field cannot ask for the base alone once adapters are loaded, so base loads get a server without.
      const files = names.slice(0, one.adapters === 0 ? 0 : one.streams === 16 ? 16 : 8);
      const peer = await startLlamaServer({
        binary,
        model: gguf,
        slots: one.streams,
        adapters: files.map((name) => resolve(ggufAdapters, `${name}.gguf`)),
      });
      try {
        llama.push(await load(peer.url, one, LLAMA_CPP));
        tell(`${label(one)}: llama.cpp ${llama.at(-1)!.tokensPerSecond.toFixed(1)} tokens/s`);
      } finally {
        await peer.stop();
      }
    }
  } finally {
    await server.stop();
  }

  const inProcess: InProcessLoad[] = LOADS.map((one) => ({
    label: label(one),
    prompts: Array.from({ length: one.streams }, (_, i) => prompt(i, promptWords)),
    adapters: Array.from({ length: one.streams }, (_, i) => (one.adapters === 0 ? null : i % one.adapters)),
  }));
  const engine = new Map<string, number>();
  const openvino = new Map<string, number>();
  const peft = new Map<string, number>();
  const own = () =>
    runOwnEngine(
      { model: values.model, dtype: values.dtype as Dtype, folder, names, newTokens, loads: inProcess },
      engine,
    );
  // Before the peers and after them, so that a machine that slows down meanwhile does not favour either.
  const peers = [values['openvino-python'], values['peft-python']].some((python) => python !== undefined);
  if (peers) await own();
  if (values['openvino-python'] !== undefined && values['openvino-model'] !== undefined) {
    const task = {
      python: values['openvino-python'],
      script: 'openvino_peer.py',
      model: resolve(values['openvino-model']),
    };
    const files = names.slice(0, 8).map((name) => resolve(folder, name, 'adapter_model.safetensors'));
    const base = inProcess.filter((_, i) => LOADS[i]!.adapters === 0);
    const adapted = inProcess.filter((_, i) => LOADS[i]!.adapters !== 0 && LOADS[i]!.adapters <= 8);
    await ifItRuns(runInProcess({ ...task, adapters: [], newTokens, loads: base }, openvino));
    await ifItRuns(runInProcess({ ...task, adapters: files, newTokens, loads: adapted }, openvino));
  }
  if (values['peft-python'] !== undefined) {
    const adapters = names.slice(0, 8).map((name) => resolve(folder, name));
    const loads = inProcess.filter((_, i) => LOADS[i]!.streams <= 8);
    const task = { python: values['peft-python'], script: 'peft_peer.py', model: resolve(values.model) };
    await ifItRuns(runInProcess({ ...task, adapters, newTokens, loads }, peft));
  }
  if (peers) await own();
  publish(
    table(basename(resolve(values.model)), values.adapters === undefined, { ours, llama, engine, openvino, peft }),
    values.save,
  );
}

/** A peer that fails leaves its cells empty; what was measured of the others counts. */
async function ifItRuns(peer: Promise<void>): Promise<void> {
  await peer.catch((error: Error) => tell(`left out: ${error.message}`));
}

function label({ streams, adapters }: Load): string {
  const who = adapters === 0 ? 'base' : adapters === 1 ? 'one adapter' : `${adapters} adapters`;
  return `${streams} ${streams === 1 ? 'stream' : 'streams'}, ${who}`;
}

/** Over HTTP by load; in process, tokens per second by the load's label. */
interface Figures {
  readonly ours: readonly LoadResult[];
  readonly llama: readonly (LoadResult | undefined)[];
  readonly engine: ReadonlyMap<string, number>;
  readonly openvino: ReadonlyMap<string, number>;
  readonly peft: ReadonlyMap<string, number>;
}

function table(model: string, ofDemo: boolean, { ours, llama, engine, openvino, peft }: Figures): BenchResult {
  const round = (value: number | undefined) => (value === undefined ? '-' : Number(value.toFixed(1)));
  const times = (value: number | undefined) => (value === undefined ? '-' : `${value.toFixed(2)}x`);
  const ratio = (mine: number | undefined, other: number | undefined) =>
    mine === undefined || other === undefined ? undefined : mine / other;
  return {
    name: 'peers',
    title: 'Side by side with other servers',
    method:
      `${model}, 8-bit weights, prompts of ${ofDemo ? '100 words' : 'about 115 tokens'}, 64 new tokens, greedy; ` +
      `${ofDemo ? 'adapters like those of the demo' : 'rank-16 adapters on all seven linears of a layer'}. ` +
      'A stream sends its next request when the one before has ended; server and load share the cores, for every ' +
      'server alike. loramux and llama.cpp (Q8_0) answer over HTTP. Without HTTP, all rows at once, in a process of their own: ' +
      'the engine of loramux, OpenVINO GenAI (continuous batching, int8) and PEFT (float32, static batch).',
    command:
      'npm run bench -- peers --model smollm2 --adapters adapters --llama-server llama-server --gguf smollm2.q8_0.gguf \\\n' +
      '  --gguf-adapters adapters --openvino-python python3 --openvino-model openvino --peft-python python3 --save',
    machine: machineName(),
    columns: [
      'Load',
      'loramux tokens/s',
      'llama.cpp tokens/s',
      'ratio',
      'loramux first token p50 ms',
      'llama.cpp first token p50 ms',
      'no HTTP: loramux tokens/s',
      'OpenVINO tokens/s',
      'ratio',
      'PEFT tokens/s',
      'ratio',
    ],
    rows: LOADS.map((one, i) => {
      const name = label(one);
      const mine = ours[i]!;
      return [
        name,
        round(mine.tokensPerSecond)!,
        round(llama[i]?.tokensPerSecond),
        times(ratio(mine.tokensPerSecond, llama[i]?.tokensPerSecond)),
        round(mine.firstTokenP50),
        round(llama[i]?.firstTokenP50),
        round(engine.get(name)),
        round(openvino.get(name)),
        times(ratio(engine.get(name), openvino.get(name))),
        round(peft.get(name)),
        times(ratio(engine.get(name), peft.get(name))),
      ];
    }),
    plot: {
      columns: [
        'loramux tokens/s',
        'llama.cpp tokens/s',
        'no HTTP: loramux tokens/s',
        'OpenVINO tokens/s',
        'PEFT tokens/s',
      ],
      unit: 'tokens/s',
    },
    notes: [
      'OpenVINO GenAI refuses requests with different adapters in one call, so eight adapters ran one after another.',
      'llama.cpp does not batch rows of different adapters.',
    ],
  };
}
