/** The commands of `loramux` and their flags: what is asked for, in texts that nobody has looked at yet. */
import { Command, CommanderError, Option } from 'commander';
import { ConfigError } from './config-error.js';
import type { Flags } from './read-settings.js';
import { SETTING_ENTRIES, type SettingEntry } from './settings.js';

/** What `loramux validate` was given. */
export interface CheckArguments {
  readonly source: string;
  readonly model?: string | undefined;
  readonly json?: boolean | undefined;
  readonly flags: Flags;
}

/** What `loramux doctor` was given. */
export interface DoctorArguments {
  readonly device: string;
  readonly deviceFloats?: string;
  readonly deviceKv?: string;
  readonly json?: boolean;
  readonly probe?: boolean;
}

/** What the arguments ask for. */
export type Asked =
  | { readonly kind: 'serve'; readonly flags: Flags }
  | ({ readonly kind: 'validate' } & CheckArguments)
  | ({ readonly kind: 'doctor' } & DoctorArguments)
  /** Help or version. */
  | { readonly kind: 'print'; readonly text: string };

const CHECK_KEYS: ReadonlySet<string> = new Set([
  ...['cacheDir', 'cacheBytes', 'sourceBytes', 'sourceTimeoutMs'],
  ...['s3Endpoint', 's3Region', 's3Addressing', 'hubEndpoint', 'baseCheck'],
]);

/** Settings that count for `loramux validate`, too: where sources are, and what is made of another base's name. */
export const CHECK_ENTRIES: readonly SettingEntry[] = SETTING_ENTRIES.filter(({ key }) => CHECK_KEYS.has(key));

/**
 * Reads the arguments.
 * @param argv arguments after the program's name
 * @throws ConfigError
 */
export function readCommandLine(argv: readonly string[], version: string): Asked {
  let printed = '';
  let asked: Asked | undefined;
  const program = commands(
    version,
    (text) => {
      printed += text;
    },
    (what) => {
      asked = what;
    },
  );
  try {
    program.parse([...argv], { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) return { kind: 'print', text: printed };
    if (error.code !== 'commander.help') throw new ConfigError(error.message.replace(/^error: /, ''), { cause: error });
  }
  return asked ?? { kind: 'print', text: program.helpInformation() };
}

function commands(version: string, print: (text: string) => void, ask: (asked: Asked) => void): Command {
  const output = { writeOut: print, writeErr: () => {} };
  const program = new Command('loramux')
    .description('Multi-LoRA inference server: one base model, many adapters, one batch.')
    .version(version, '--version')
    .exitOverride()
    .configureOutput(output);
  const command = program
    .command('serve')
    .description('Serve models until SIGINT, SIGTERM or SIGHUP.')
    .allowExcessArguments(false)
    .exitOverride()
    .configureOutput(output)
    .action((flags: Flags) => ask({ kind: 'serve', flags }));
  for (const entry of SETTING_ENTRIES) command.addOption(optionOf(entry));
  program
    .command('validate')
    .description(
      'Check an adapter against a model without serving: every tensor, its place, and what would be refused.',
    )
    .argument('<source>', 'the adapter: a folder, s3://bucket/prefix, a hub id or hf://..., an https:// archive')
    .option('--model <DIR|ID>', 'the model it is for, as serve takes it (default: the embedded demo model)')
    .option('--json', 'print the whole report as JSON')
    .exitOverride()
    .configureOutput(output)
    .action((source: string, { model, json, ...flags }: { model?: string; json?: boolean }) =>
      ask({ kind: 'validate', source, model, json, flags }),
    );
  const check = program.commands.at(-1)!;
  for (const entry of CHECK_ENTRIES) check.addOption(optionOf(entry));
  program
    .command('doctor')
    .description('Describe this machine, say what --device auto takes, and test the server on the demo model.')
    .option('--device <DEVICE>', 'auto, cpu or webgpu: where the test runs', 'auto')
    .option('--device-floats <FLOATS>', 'auto, fp16 or fp32: floats of the test on a GPU')
    .option('--device-kv <KV>', 'plain or paged: where keys and values lie in the test on a GPU')
    .option('--json', 'print the report as JSON')
    .addOption(new Option('--probe').hideHelp())
    .allowExcessArguments(false)
    .exitOverride()
    .configureOutput(output)
    .action((options: DoctorArguments) => ask({ kind: 'doctor', ...options }));
  return program;
}

function optionOf(entry: SettingEntry): Option {
  const fallback = entry.default === undefined ? entry.unset : entry.default;
  const option = new Option(
    `${entry.flag} <${entry.value}>`,
    `${entry.description} (default: ${fallback}; env: ${entry.env})${entry.repeatable ? ' May be repeated.' : ''}`,
  );
  if (entry.repeatable) {
    option.argParser((value: string, before: string[] | undefined) => [...(before ?? []), value]);
  } else {
    option.argParser((value: string, before: string | undefined) => {
      if (before !== undefined) throw new ConfigError(`${entry.flag} is given twice: ${before} and ${value}`);
      return value;
    });
  }
  return option;
}
