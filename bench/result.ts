/** What a bench command found, in the form that is published: `bench/results/NAME.json` and docs/performance.md. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';

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

/** Processor and cores of this machine. */
export function machineName(): string {
  const all = cpus();
  return `${all[0]?.model.trim() ?? 'unknown processor'}, ${all.length} cores`;
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

/** Prints the table; with `save` also writes it to `bench/results/`, from which `npm run docs` renders the page. */
export function publish(found: BenchResult, save: boolean): void {
  const result = { ...found, notes: [...(found.notes ?? []), ...disturbances()] };
  console.log(`\n${result.title} (${result.machine})\n`);
  console.log(textTable(result));
  for (const note of result.notes ?? []) console.log(`- ${note}`);
  if (!save) return;
  const folder = new URL('./results/', import.meta.url);
  mkdirSync(folder, { recursive: true });
  writeFileSync(new URL(`${result.name}.json`, folder), `${JSON.stringify(result, null, 2)}\n`);
  console.log(`\nsaved as bench/results/${result.name}.json; run: npm run docs`);
}

/** Columns padded to their widest cell. */
function textTable({ columns, rows }: BenchResult): string {
  const cells = [columns, ...rows].map((row) => row.map(String));
  const widths = columns.map((_, i) => Math.max(...cells.map((row) => (row[i] ?? '').length)));
  const line = (row: readonly string[]) =>
    row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join('  ');
  return cells.map(line).join('\n');
}
