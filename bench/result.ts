/** What a bench command found, in the form that is published: `bench/results/NAME.json` and docs/performance.md. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { describeMachine } from '../server/doctor/machine.js';

/** A table with all that is needed to read and to repeat it. */
export interface BenchResult {
  /** Name of the command; also that of the file. */
  readonly name: string;
  readonly title: string;
  /** What was measured and how, in a few sentences. */
  readonly method: string;
  /** The command line that gives this table, without paths of one machine. */
  readonly command: string;
  /** Processor and cores; see {@link machineName}. */
  readonly machine: string;
  /** Headings with units; the first column names the row. */
  readonly columns: readonly string[];
  readonly rows: readonly (readonly (string | number)[])[];
  /** Columns (by heading) to draw as bars, one group per row; absent = no plot. All of one unit. */
  readonly plot?: { readonly columns: readonly string[]; readonly unit: string } | undefined;
  /** What to know when reading it: targets that were not reached, noise, versions of peers. */
  readonly notes?: readonly string[] | undefined;
}

/** What decides how fast bytes are multiplied, the fastest first. */
const INSTRUCTIONS = [
  ['amx_int8', 'AMX'],
  ['avx512_vnni', 'AVX-512 VNNI'],
  ['avx_vnni', 'AVX-VNNI'],
  ['avx512bw', 'AVX-512'],
  ['avx2', 'AVX2'],
  ['i8mm', 'I8MM'],
  ['asimddp', 'dot products'],
] as const;

/** Processor, the instructions that matter most to it, and cores. */
export function machineName(): string {
  const { model, cores, instructionSets } = describeMachine(process.platform, process.arch).processor;
  const [, instructions] = INSTRUCTIONS.find(([flag]) => instructionSets?.includes(flag)) ?? [];
  return `${model}${instructions === undefined ? '' : ` (${instructions})`}, ${cores} cores`;
}

/** Processes that wanted to run in the minute before this one began. */
const busyAtStart = loadavg()[0]!;

/** What to say of other work on this machine; empty = there was little. */
function disturbances(): string[] {
  const cores = cpus().length;
  if (busyAtStart < cores / 2) return [];
  const load = busyAtStart.toFixed(1);
  return [`other work ran on the machine (load ${load} on ${cores} cores before the start): absolute figures suffer`];
}

/**
 * Prints the table; with `save` also writes it to `bench/results/`, from which `npm run docs` renders the page. What another
 * machine found is kept beside it.
 */
export function publish(found: BenchResult, save: boolean): void {
  const result = { ...found, notes: [...(found.notes ?? []), ...disturbances()] };
  console.log(`\n${result.title} (${result.machine})\n`);
  console.log(textTable(result));
  for (const note of result.notes ?? []) console.log(`- ${note}`);
  if (!save) return;
  const folder = new URL('./results/', import.meta.url);
  mkdirSync(folder, { recursive: true });
  const name = fileName(result, folder);
  writeFileSync(new URL(name, folder), `${JSON.stringify(result, null, 2)}\n`);
  console.log(`\nsaved as bench/results/${name}; run: npm run docs`);
}

/** The command's own name for the machine that was measured first, and one with the machine's for any other. */
function fileName({ name, machine }: BenchResult, folder: URL): string {
  const plain = new URL(`${name}.json`, folder);
  const first = existsSync(plain) ? (JSON.parse(readFileSync(plain, 'utf8')) as BenchResult).machine : machine;
  const slug = machine.toLowerCase().replace(/[^a-z0-9]+/g, '-');
  return first === machine ? `${name}.json` : `${name}.${slug}.json`;
}

/** Columns padded to their widest cell. */
function textTable({ columns, rows }: BenchResult): string {
  const cells = [columns, ...rows].map((row) => row.map(String));
  const widths = columns.map((_, i) => Math.max(...cells.map((row) => (row[i] ?? '').length)));
  const line = (row: readonly string[]) =>
    row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join('  ');
  return cells.map(line).join('\n');
}
