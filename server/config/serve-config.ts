/** What the server is started with: the settings, and what the machine has for them: folders, models, places to keep things. */
import { statSync } from 'node:fs';
import path from 'node:path';
import type { RegistryPlace } from '../registry/open-registry.js';
import type { SourceSettings } from '../sources/source-settings.js';
import { ConfigError } from './config-error.js';
import { unknownVariables } from './foreign-variables.js';
import { type ModelSource, resolveModelFolder } from './model-folder.js';
import type { Environment } from './read-settings.js';
import { registryPlace, stateFolder } from './registry-place.js';
import { type RemoteModel, remoteModelOf } from './remote-model.js';
import { type ServingEnvironment, servingEnvironment } from './serving-env.js';
import { SERVING_KEYS } from './serving-keys.js';
import type { SettingValues } from './settings.js';
import { type SourceFlag, sourceSettings } from './source-flags.js';
import { ignoredFolders } from './user-folders.js';

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

/** The surroundings, as far as the configuration depends on them. */
export interface Surroundings {
  readonly env: Environment;
  /** What relative paths are relative to. */
  readonly cwd: string;
  /** Folder of the package, which holds `models/demo`. */
  readonly packageRoot: string;
}

/** Name of the embedded model. */
const DEMO_MODEL = 'demo';

/** The embedded model, as `--model` would name it. */
export function demoModel({ packageRoot }: Surroundings): string {
  return `${DEMO_MODEL}=${path.join(packageRoot, 'models', DEMO_MODEL)}`;
}

/**
 * Checks the settings against each other and against what is there.
 * @throws ConfigError
 */
export function serveConfig(settings: SettingValues, surroundings: Surroundings): ServeConfig {
  const { model, modelStore, workflow, adapters, merge, allowPath, stateDir, registry, ...values } = settings;
  const { adapterHandlers: codeFolders, ...rest } = values;
  const others = modelStore !== undefined || workflow.length > 0;
  const serving = servingEnvironment(surroundings.env);
  const { env } = surroundings;
  const remarks = [...unknownVariables(env), ...ignoredFolders(env), ...serving.remarks];
  const variables = { ...serving, remarks };
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
  const wish = { stateDir, registry, port: settings.port, model: own, env, cwd };
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

/**
 * The absolute path of a folder that is there.
 * @param flag what names it
 * @throws ConfigError
 */
export function existingFolder(flag: string, given: string, cwd: string): string {
  const place = path.resolve(cwd, given);
  if (!statSync(place, { throwIfNoEntry: false })?.isDirectory()) {
    throw new ConfigError(`${flag} ${given}: there is no folder ${place}`);
  }
  return place;
}
