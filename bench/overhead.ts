/**
 * `npm run bench -- overhead [--callers 1,8,32] [--seconds 4] [--idle 10000] [--only echo,json] [--other DIR]
 * [--profile DIR] [--save]`
 *
 * What the server costs around the model: requests per second of a handler that echoes, and of one token of the demo
 * model over each protocol; then memory and processor time of streams on which nothing happens.
 * `--other` names another checkout of this project, whose server is measured in turns with this one's; `--profile` where
 * Node writes the processor profiles of the server's threads.
 */

import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { create, toBinary } from '@bufbuild/protobuf';
import { PredictRequestSchema } from '../gen/loramux/v1/inference_pb.js';
import { closedLoop, type LoopResult } from './closed-loop.js';
import { FlagError, readFlags, TEXT } from './flags.js';
import { openGrpcWatches, openHttpWatches } from './idle-streams.js';
import { processorMs, residentMiB } from './process-cost.js';
import { tell } from './progress.js';
import { grpcCallers, grpcFrame, http1Caller, type OpenCaller, type RawRequest } from './raw-callers.js';
import { machineName, publish } from './result.js';
import { type ServerProcess, startServer } from './server-process.js';

const PROMPT = 'How is the weather';

/** A way of asking. */
interface Path {
  readonly label: string;
  readonly model: 'echo' | 'demo';
  open(url: string, callers: number): Promise<OpenCaller[]>;
}

const json = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value));
const message = toBinary(
  PredictRequestSchema,
  create(PredictRequestSchema, {
    inputs: [{ prompt: { case: 'text', value: PROMPT }, adapters: { case: 'adapter', value: 'pirate' } }],
    parameters: { maxNewTokens: 1 },
  }),
);
const PREDICT = '/loramux.v1.InferenceService/Predict';
const overHttp1 = (request: RawRequest) => (url: string, callers: number) =>
  Promise.all(Array.from({ length: callers }, () => http1Caller(url, request)));

const PATHS: Readonly<Record<string, Path>> = {
  echo: {
    label: 'echo handler, HTTP/JSON',
    model: 'echo',
    open: overHttp1({
      path: '/invocations',
      headers: { 'content-type': 'application/json' },
      body: json({ inputs: PROMPT }),
    }),
  },
  json: {
    label: 'one token, HTTP/JSON',
    model: 'demo',
    open: overHttp1({
      path: '/invocations',
      headers: { 'content-type': 'application/json' },
      body: json({ inputs: PROMPT, adapters: 'pirate', parameters: { max_new_tokens: 1 } }),
    }),
  },
  connect: {
    label: 'one token, Connect JSON',
    model: 'demo',
    open: overHttp1({
      path: PREDICT,
      headers: { 'content-type': 'application/json', 'connect-protocol-version': '1' },
      body: json({ inputs: [{ text: PROMPT, adapter: 'pirate' }], parameters: { maxNewTokens: 1 } }),
    }),
  },
  'grpc-web': {
    label: 'one token, gRPC-Web',
    model: 'demo',
    open: overHttp1({
      path: PREDICT,
      headers: { 'content-type': 'application/grpc-web+proto', 'x-grpc-web': '1' },
      body: grpcFrame(message),
    }),
  },
  grpc: {
    label: 'one token, gRPC',
    model: 'demo',
    open: (url, callers) =>
      grpcCallers(
        url,
        { path: PREDICT, headers: { 'content-type': 'application/grpc' }, body: grpcFrame(message) },
        callers,
      ),
  },
};

/** A server under load, and what its rows are called. */
interface Side {
  readonly suffix: string;
  readonly server: ServerProcess;
}

export async function run(args: string[]): Promise<void> {
  const values = readFlags(args, {
    callers: [1, 8, 32],
    seconds: 4,
    idle: 10000,
    only: Object.keys(PATHS).join(','),
    other: TEXT,
    profile: TEXT,
    save: false,
  });
  const { seconds, callers } = values;
  const paths = values.only.split(',').map((name) => {
    const path = PATHS[name];
    if (path === undefined)
      throw new FlagError(`--only takes ${Object.keys(PATHS).join(', ')}, not ${JSON.stringify(name)}`);
    return path;
  });
  const rows: (string | number)[][] = [];
  const notes: string[] = [];
  for (const model of ['echo', 'demo'] as const) {
    const mine = paths.filter((path) => path.model === model);
    if (mine.length === 0) continue;
    const sides = await startSides(model, values.other, values.profile);
    try {
      for (const path of mine) {
        for (const count of callers) {
          for (const { suffix, server } of sides) {
            const open = await path.open(server.url, count);
            const { result, serverMs, callersShare } = await withProcessorTime(server, (counting) =>
              closedLoop(
                open.map(({ call }) => call),
                seconds,
                counting,
              ),
            );
            for (const { close } of open) close();
            rows.push(row(`${path.label}${suffix}`, count, result, serverMs, callersShare));
            tell(rows.at(-1)!.join('  '));
          }
        }
      }
    } finally {
      for (const { server } of sides) await server.stop();
    }
  }
  if (values.idle > 0) tell(`opening ${values.idle} idle streams`);
  if (values.idle > 0) notes.push(...(await idleCost(values.idle, seconds)));
  publish(
    {
      name: 'overhead',
      title: 'The server around the model',
      method:
        'Callers on kept connections ask again as soon as they have their answer; the first two seconds do not count. ' +
        'The echo handler answers from its thread; the demo model (3 million weights) makes one token with an adapter. ' +
        'The callers run on the same cores; processor time is that of all threads.',
      command: `npm run bench -- overhead --seconds ${values.seconds}`,
      machine: machineName(),
      columns: [
        ...['path', 'callers', 'requests/s', 'p50 ms', 'p99 ms', 'max ms'],
        'server CPU ms a request',
        'callers, % of all CPU',
      ],
      rows,
      notes,
    },
    values.save,
  );
}

/** Runs the load; what the server's process took meanwhile, and the share that the callers had of both processes' time. */
async function withProcessorTime(
  server: ServerProcess,
  load: (counting: () => void) => Promise<LoopResult>,
): Promise<{ result: LoopResult; serverMs: number; callersShare: number }> {
  const now = () => ({ server: processorMs(server.pid), callers: process.cpuUsage() });
  let from = now();
  const result = await load(() => {
    from = now();
  });
  const serverMs = processorMs(server.pid) - from.server;
  const { user, system } = process.cpuUsage(from.callers);
  const callersMs = (user + system) / 1000;
  return { result, serverMs, callersShare: callersMs / (callersMs + serverMs) };
}

function row(
  label: string,
  callers: number,
  { perSecond, p50, p99, max, failed, answers }: LoopResult,
  serverMs: number,
  callersShare: number,
): (string | number)[] {
  const name = failed > 0 ? `${label} (${failed} FAILED)` : label;
  const times = [p50.toFixed(2), p99.toFixed(2), max.toFixed(1)];
  return [
    name,
    callers,
    perSecond.toFixed(0),
    ...times,
    (serverMs / answers).toFixed(3),
    (callersShare * 100).toFixed(0),
  ];
}

async function startSides(
  model: Path['model'],
  other: string | undefined,
  profile: string | undefined,
): Promise<Side[]> {
  const here = fileURLToPath(new URL('..', import.meta.url));
  const nodeFlags = profile === undefined ? [] : ['--cpu-prof', '--cpu-prof-dir', resolve(profile)];
  const sides: Side[] = [];
  for (const root of other === undefined ? [here] : [resolve(other), here]) {
    const flags = model === 'echo' ? ['--model', join(root, 'examples/handlers/echo')] : [];
    const suffix = other === undefined ? '' : root === here ? ', here' : ', other';
    sides.push({ suffix, server: await startServer(['--state-dir', 'none', ...flags], root, nodeFlags) });
  }
  return sides;
}

/** Opens idle streams over either protocol, each on a server that has done nothing else, and looks what they take. */
async function idleCost(count: number, seconds: number): Promise<string[]> {
  const notes: string[] = [];
  for (const [label, open] of [
    ['gRPC streams on HTTP/2', openGrpcWatches],
    ['HTTP/1.1 streams, a connection each', openHttpWatches],
  ] as const) {
    // A connection each must leave room for others under the server's bound of 10,000.
    const streams = label.startsWith('HTTP/1.1') ? Math.min(count, 9_900) : count;
    const server = await startServer(['--state-dir', 'none']);
    try {
      const before = residentMiB(server.pid);
      const close = await open(server.url, streams);
      const after = residentMiB(server.pid);
      const from = processorMs(server.pid);
      await new Promise((resolve) => setTimeout(resolve, seconds * 2500));
      const used = processorMs(server.pid) - from;
      close();
      const perStream = ((after - before) * 1024) / streams;
      notes.push(
        `${streams} idle ${label}: ${(after - before).toFixed(0)} MiB (${perStream.toFixed(1)} KiB each), ` +
          `${((used / (seconds * 2500)) * 100).toFixed(1)} % of one core`,
      );
    } finally {
      await server.stop();
    }
  }
  return notes;
}
