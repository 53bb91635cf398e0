/** Command line and environment to configuration. Reads no global state: everything comes in as arguments. */
import { statSync } from 'node:fs';
import path from 'node:path';
import { Command, CommanderError, Option } from 'commander';
import type { RegistryPlace } from '../registry/open-registry.js';
import type { SourceSettings } from '../sources/source-settings.js';
import { asConfigError, ConfigError, oneLine } from './config-error.js';
import { type ModelSource, resolveModelFolder } from './model-folder.js';
import { registryPlace, stateFolder } from './registry-place.js';
import { isRemoteModel, type RemoteModel, remoteModelOf, withRevision } from './remote-model.js';
import { NO_SERVING_ENVIRONMENT, type ServingEnvironment, servingEnvironment } from './serving-env.js';
import { SERVING_KEYS } from './serving-keys.js';
import { splitValues } from './setting.js';
import { SETTING_ENTRIES, SETTINGS, type SettingEntry, type SettingValues } from './settings.js';
import { type SourceFlag, sourceSettings } from './source-flags.js';

/** Everything the server is started with. */
export interface ServeConfig
  extends Omit<
    SettingValues,
    | 'model'
    | 'modelStore'
    | 'workflow'
    | 'adapters'
    | 'merge'
    | 'allowPath'
    | 'adapterHandlers'
    | 'stateDir'
    | 'registry'
    | SourceFlag
  > {
  /** Names differ; empty only where remote models, workflows or a model store are served instead. */
  readonly models: readonly ModelSource[];
  /** Models of the start that are to be fetched first. */
  readonly remoteModels: readonly RemoteModel[];
  /** An existing folder, absolute; undefined = none. */
  readonly modelStore: string | undefined;
  /** Existing files and folders, absolute. */
  readonly workflows: readonly string[];
  /** Existing folders, absolute. */
  readonly allowPaths: readonly string[];
  /** Existing folders whose adapters may bring code, absolute. */
  readonly adapterHandlers: readonly string[];
  /** Folder for what outlives the process, absolute, not necessarily there yet; undefined = nothing is kept. */
  readonly stateDir: string | undefined;
  readonly registry: RegistryPlace;
  /** Remote sources: what is allowed, where it is kept, and where S3 and the hub are. */
  readonly sources: SourceSettings;
  /** What the environment says for keys that a model's `serving.properties` lacks. */
  readonly environment: ServingEnvironment;
}

/** What `loramux validate` checks. */
export interface AdapterCheck {
  /** The model, on this machine or to be fetched. */
  readonly model: ModelSource | RemoteModel;
  /** The adapter: an absolute path, or a remote source. */
  readonly source: string;
  readonly sources: SourceSettings;
  readonly baseCheck: ServeConfig['baseCheck'];
  readonly json: boolean;
}

/** What the command line asks for. */
export type Invocation =
  | { readonly kind: 'serve'; readonly config: ServeConfig }
  /** Check an adapter against a model, print the report. */
  | ({ readonly kind: 'validate' } & AdapterCheck)
  /** Describe this machine and test the server on it; `demo`: how the demo model is served for that. */
  | { readonly kind: 'doctor'; readonly demo: ServeConfig; readonly json: boolean }
  /** Only open the GPU, in this process, and print what it can do: `doctor` starts itself so. */
  | { readonly kind: 'probe' }
  /** Help or version: print and end with exit code 0. */
  | { readonly kind: 'print'; readonly text: string };

/** The surroundings, as far as the configuration depends on them. */
export interface Surroundings {
  /** Arguments after the program's name. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** What relative paths are relative to. */
  readonly cwd: string;
  /** Folder of the package, which holds `models/demo`. */
  readonly packageRoot: string;
  readonly version: string;
}

/** Name of the embedded model. */
const DEMO_MODEL = 'demo';

/** @throws ConfigError with one line that says what is wrong and what would be right */
export function parseInvocation(surroundings: Surroundings): Invocation {
  let printed = '';
  let flags: Record<string, string | string[] | undefined> | undefined;
  let check: CheckArguments | undefined;
  let doctor: DoctorArguments | undefined;
  const program = commandLine(
    surroundings.version,
    (text) => {
      printed += text;
    },
    (values) => {
      flags = values;
    },
    (values) => {
      check = values;
    },
    (values) => {
      doctor = values;
    },
  );
  try {
    program.parse([...surroundings.argv], { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) return { kind: 'print', text: printed };
    if (error.code === 'commander.help') return { kind: 'print', text: program.helpInformation() };
    throw new ConfigError(error.message.replace(/^error: /, ''), { cause: error });
  }
  try {
    if (doctor !== undefined) return assembleDoctor(doctor, surroundings);
    if (check !== undefined) return assembleCheck(check, surroundings);
    if (flags === undefined) return { kind: 'print', text: program.helpInformation() };
    return { kind: 'serve', config: assemble(readSettings(flags, surroundings.env), surroundings) };
  } catch (error) {
    throw asConfigError(error);
  }
}

function commandLine(
  version: string,
  print: (text: string) => void,
  serve: (values: Record<string, string | string[] | undefined>) => void,
  validate: (values: CheckArguments) => void,
  doctor: (values: DoctorArguments) => void,
): Command {
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
    .action((values: Record<string, string | string[] | undefined>) => serve(values));
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
      validate({ source, model, json, flags }),
    );
  const check = program.commands.at(-1)!;
  for (const entry of SETTING_ENTRIES.filter(({ key }) => CHECK_SETTINGS.has(key))) check.addOption(optionOf(entry));
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
    .action((options: DoctorArguments) => doctor(options));
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

function readSettings(flags: Record<string, string | string[] | undefined>, env: Surroundings['env']): SettingValues {
  const raw: Record<string, string | string[]> = {};
  const origin = new Map<string, string>();
  for (const entry of SETTING_ENTRIES) {
    const flag = flags[entry.key];
    const variable = [entry.env, ...(entry.variables ?? [])].find((name) => (env[name] ?? '') !== '');
    if (flag !== undefined) {
      raw[entry.key] = flag;
      origin.set(entry.key, entry.flag);
    } else if (variable !== undefined) {
      const value = env[variable]!;
      raw[entry.key] = entry.repeatable ? splitValues(value, entry.separator ?? path.delimiter) : value;
      origin.set(entry.key, variable);
    }
  }
  const parsed = SETTINGS.safeParse(raw);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  const key = String(issue.path[0]);
  throw new ConfigError(`${origin.get(key) ?? key} ${String(raw[key])}: ${oneLine(issue.message)}`);
}

/** What `loramux validate` was given. */
interface CheckArguments {
  readonly source: string;
  readonly model?: string | undefined;
  readonly json?: boolean | undefined;
  readonly flags: Record<string, string | string[] | undefined>;
}

/** Settings that count for `loramux validate`, too: where sources are, and what is made of another base's name. */
const CHECK_SETTINGS: ReadonlySet<string> = new Set([
  ...['cacheDir', 'cacheBytes', 'sourceBytes', 'sourceTimeoutMs'],
  ...['s3Endpoint', 's3Region', 's3Addressing', 'hubEndpoint', 'baseCheck'],
]);

function assembleCheck({ source, model, json = false, flags }: CheckArguments, around: Surroundings): Invocation {
  const { cwd, env } = around;
  const given = model ?? demoModel(around);
  const names = SETTING_ENTRIES.filter(({ key }) => CHECK_SETTINGS.has(key)).flatMap((entry) => [
    entry.env,
    ...(entry.variables ?? []),
  ]);
  // Variables of a server that is served from here do not count for its models.
  const settings = readSettings(flags, Object.fromEntries(names.map((name) => [name, env[name]])));
  const modelSettings = { ...settings, environment: NO_SERVING_ENVIRONMENT };
  const remote = isRemoteModel(source, cwd);
  if (!remote && !isFile(source, cwd)) existingFolder('validate', source, cwd);
  return {
    kind: 'validate',
    model: remoteModelOf(given, modelSettings, cwd) ?? resolveModelFolder(given, modelSettings, cwd),
    source: remote ? withRevision(source, undefined) : path.resolve(cwd, source),
    sources: sourceSettings(settings, around),
    baseCheck: settings.baseCheck,
    json,
  };
}

/** An adapter in GGUF form is one file. */
function isFile(given: string, cwd: string): boolean {
  const place = path.resolve(cwd, given);
  return /\.gguf$/i.test(place) && statSync(place, { throwIfNoEntry: false })?.isFile() === true;
}

/** What `loramux doctor` was given. */
interface DoctorArguments {
  readonly device: string;
  readonly deviceFloats?: string;
  readonly deviceKv?: string;
  readonly json?: boolean;
  readonly probe?: boolean;
}

function assembleDoctor({ json = false, probe, ...device }: DoctorArguments, surroundings: Surroundings): Invocation {
  if (probe) return { kind: 'probe' };
  // The settings of a server that is being examined do not count: the test is the same everywhere.
  const settings = readSettings({ ...device, port: '0', stateDir: 'none' }, {});
  return { kind: 'doctor', demo: assemble(settings, surroundings), json };
}

function demoModel({ packageRoot }: Surroundings): string {
  return `${DEMO_MODEL}=${path.join(packageRoot, 'models', DEMO_MODEL)}`;
}

function assemble(settings: SettingValues, surroundings: Surroundings): ServeConfig {
  const { model, modelStore, workflow, adapters, merge, allowPath, stateDir, registry, ...values } = settings;
  const { adapterHandlers: codeFolders, ...rest } = values;
  const others = modelStore !== undefined || workflow.length > 0;
  const variables = servingEnvironment(surroundings.env);
  const named = variables.defaults.find(({ key }) => key === SERVING_KEYS.modelId.key);
  const alone = model.length === 0 && !others;
  const given = alone ? [named?.value ?? demoModel(surroundings)] : model;
  // Where it is the model itself, it does not name another one for it.
  const environment = alone ? { ...variables, defaults: variables.defaults.filter((one) => one !== named) } : variables;
  if (adapters !== undefined && given.length > 1) {
    throw new ConfigError('--adapters goes with one --model; with several, put adapters/ inside each model folder');
  }
  if (merge !== undefined && given.length > 1) {
    throw new ConfigError(
      '--merge goes with one --model; with several, put option.merge into their serving.properties',
    );
  }
  if (modelStore === undefined && !/^(all|none)$/i.test(settings.loadModels)) {
    throw new ConfigError(
      `--load-models ${settings.loadModels}: goes with --model-store, whose models it names; --model serves one by its folder`,
    );
  }
  const { cwd } = surroundings;
  const modelSettings = { ...settings, environment };
  const all = given.map(
    (text) => remoteModelOf(text, modelSettings, cwd) ?? resolveModelFolder(text, modelSettings, cwd),
  );
  const models = all.filter((one) => 'path' in one);
  const remoteModels = all.filter((one) => 'url' in one);
  const names = all.map((source) => source.name);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) throw new ConfigError(`two models are named "${twice}"; name them with --model NAME=DIR`);
  const allowPaths = allowPath.map((given) => existingFolder('--allow-path', given, surroundings.cwd));
  const own =
    model.length > 0 || (alone && named !== undefined)
      ? keptAs(all[0]!)
      : keptBy(modelStore ?? workflow[0], surroundings.cwd);
  const wish = { stateDir, registry, port: settings.port, model: own, env: surroundings.env, cwd: surroundings.cwd };
  const workflows = workflow.map((given) => {
    const place = path.resolve(surroundings.cwd, given);
    if (statSync(place, { throwIfNoEntry: false })) return place;
    throw new ConfigError(`--workflow ${given}: there is no file or folder ${place}`);
  });
  const served = {
    models,
    remoteModels,
    workflows,
    modelStore: modelStore === undefined ? undefined : existingFolder('--model-store', modelStore, surroundings.cwd),
  };
  return {
    ...rest,
    ...served,
    allowPaths,
    adapterHandlers: codeFolders.map((given) => existingFolder('--adapter-handlers', given, surroundings.cwd)),
    stateDir: stateFolder(wish),
    registry: registryPlace(wish),
    sources: sourceSettings(settings, surroundings),
    environment,
  };
}

/** What stands for a model in the name of the state folder. */
function keptAs(model: ModelSource | RemoteModel): { name: string; path: string } {
  return { name: model.name, path: 'url' in model ? model.url : model.path };
}

/** What stands for the first model in the name of the state folder, where no model is named. */
function keptBy(given: string | undefined, cwd: string): { name: string; path: string } | undefined {
  if (given === undefined) return undefined;
  const place = path.resolve(cwd, given);
  return { name: path.basename(place), path: place };
}

function existingFolder(flag: string, given: string, cwd: string): string {
  const place = path.resolve(cwd, given);
  if (!statSync(place, { throwIfNoEntry: false })?.isDirectory()) {
    throw new ConfigError(`${flag} ${given}: there is no folder ${place}`);
  }
  return place;
}
