/** Command line and environment to configuration. Reads no global state: everything comes in as arguments. */
import { statSync } from 'node:fs';
import path from 'node:path';
import type { SourceSettings } from '../sources/source-settings.js';
import {
  type Asked,
  CHECK_ENTRIES,
  type CheckArguments,
  type DoctorArguments,
  readCommandLine,
} from './command-line.js';
import { asConfigError } from './config-error.js';
import { unknownVariables } from './foreign-variables.js';
import { type ModelSource, resolveModelFolder } from './model-folder.js';
import { readSettings } from './read-settings.js';
import { isRemoteModel, type RemoteModel, remoteModelOf, withRevision } from './remote-model.js';
import { demoModel, existingFolder, type ServeConfig, type Surroundings, serveConfig } from './serve-config.js';
import { NO_SERVING_ENVIRONMENT } from './serving-env.js';
import { sourceSettings } from './source-flags.js';
import { ignoredFolders } from './user-folders.js';

/** What `loramux validate` checks. */
export interface AdapterCheck {
  /** The model, on this machine or to be fetched. */
  readonly model: ModelSource | RemoteModel;
  /** The adapter: an absolute path, or a remote source. */
  readonly source: string;
  readonly sources: SourceSettings;
  readonly baseCheck: ServeConfig['baseCheck'];
  readonly json: boolean;
  /** Remarks for standard error: variables that mean nothing here. */
  readonly remarks: readonly string[];
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

/** What there is to parse. */
export interface Started extends Surroundings {
  /** Arguments after the program's name. */
  readonly argv: readonly string[];
  readonly version: string;
}

/** @throws ConfigError with one line that says what is wrong and what would be right */
export function parseInvocation({ argv, version, ...surroundings }: Started): Invocation {
  const asked = readCommandLine(argv, version);
  try {
    return invocation(asked, surroundings);
  } catch (error) {
    throw asConfigError(error);
  }
}

function invocation(asked: Asked, surroundings: Surroundings): Invocation {
  switch (asked.kind) {
    case 'serve':
      return { kind: 'serve', config: serveConfig(readSettings(asked.flags, surroundings.env), surroundings) };
    case 'validate':
      return adapterCheck(asked, surroundings);
    case 'doctor':
      return doctorRun(asked, surroundings);
    case 'print':
      return asked;
  }
}

function adapterCheck({ source, model, json = false, flags }: CheckArguments, around: Surroundings): Invocation {
  const { cwd, env } = around;
  const given = model ?? demoModel(around);
  const names = CHECK_ENTRIES.flatMap((entry) => [entry.env, ...(entry.variables ?? [])]);
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
    remarks: [...unknownVariables(env), ...ignoredFolders(env)],
  };
}

/** An adapter in GGUF form is one file. */
function isFile(given: string, cwd: string): boolean {
  const place = path.resolve(cwd, given);
  return /\.gguf$/i.test(place) && statSync(place, { throwIfNoEntry: false })?.isFile() === true;
}

function doctorRun(asked: DoctorArguments, surroundings: Surroundings): Invocation {
  const { json = false, probe, device, deviceFloats, deviceKv } = asked;
  if (probe) return { kind: 'probe' };
  // The settings of a server that is being examined do not count: the test is the same everywhere.
  const settings = readSettings({ device, deviceFloats, deviceKv, port: '0', stateDir: 'none' }, {});
  return { kind: 'doctor', demo: serveConfig(settings, surroundings), json };
}
