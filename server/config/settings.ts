/** Every setting of the server, once: the flags, the environment variables and `docs/configuration.md` come from here. */
import { z } from 'zod';
import { BASE_CHECKS } from '../adapters/base-identity.js';
import { MAX_BATCH, MAX_QUEUE } from '../batch-bounds.js';
import { bytes, choice, integer, optionalText, origins, type SettingMeta, text, texts } from './setting.js';

/** Values that `--dtype` takes. */
export const DTYPES = ['auto', 'fp32', 'int8', 'int4'] as const;
/** Values that `--compat` takes. */
export const COMPAT_MODES = ['strict', 'djl'] as const;
/** Values that `--s3-addressing` takes. */
export const S3_ADDRESSING = ['auto', 'path', 'host'] as const;
/** Values that `--device` takes. */
export const DEVICES = ['auto', 'cpu', 'webgpu'] as const;
/** Values that `--device-floats` takes. */
export const DEVICE_FLOATS = ['auto', 'fp16', 'fp32'] as const;
/** Values that `--device-kv` takes. */
export const DEVICE_KV = ['plain', 'paged'] as const;
/** Values that `--log-level` takes, most talkative first. */
export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;

/** The schema: raw texts in, values out. Keys are in the order of the help and of the documentation. */
export const SETTINGS = z.object({
  model: texts({
    value: '[NAME=]DIR|URL',
    description:
      "A model to serve: a Hugging Face model folder, a GGUF file, a folder with a serving.properties, or one of these elsewhere: s3://, hf://, a hub's org/name, an https: archive. NAME defaults to the folder's or file's name.",
    unset: 'the embedded demo model, as `demo`',
  }),
  modelStore: optionalText({
    value: 'DIR',
    description:
      'Folder whose sub-folders and .gguf files are models; names in it can be registered while the server runs.',
    unset: 'none',
    variables: ['SERVING_MODEL_STORE'],
  }),
  loadModels: text({
    value: 'ALL|NONE|NAME,...',
    description: 'Which models of the model store to load at the start; one that is broken does not stop the others.',
    default: 'ALL',
    variables: ['SERVING_LOAD_MODELS'],
  }),
  workflow: texts({
    value: 'FILE|DIR',
    description: 'A workflow to serve: its definition, or the folder that holds it as workflow.json, .yml or .yaml.',
    unset: 'none',
  }),
  adapters: optionalText({
    value: 'DIR',
    description: 'Folder whose sub-folders are PEFT adapters, registered at start under their names.',
    unset: '`adapters/` inside the model folder',
  }),
  allowPath: texts({
    value: 'DIR',
    description:
      'A further folder that adapters, models and workflows may be registered from; also for what a --workflow names.',
    unset: "the model's own adapters folder only",
  }),
  allowSource: texts({
    value: 'PATTERN',
    description:
      'A remote source that adapters and models may be registered from, and all below it: `s3://bucket/prefix`, `hf://org/*`, `https://host/path`; `*` stands for anything within one part. The variable separates patterns by commas.',
    unset: 'no remote source',
    separator: ',',
  }),
  cacheDir: optionalText({
    value: 'DIR',
    description: 'Folder for what can be fetched or computed again; several servers may share it.',
    unset: '`$XDG_CACHE_HOME/loramux` or `~/.cache/loramux`',
  }),
  cacheBytes: bytes(1, {
    value: 'BYTES',
    description: 'Most bytes of remote files that are kept in the cache; what was used longest ago goes first.',
    default: '20GiB',
  }),
  sourceBytes: bytes(1, {
    value: 'BYTES',
    description: 'Most bytes of one remote source.',
    default: '10GiB',
  }),
  sourceTimeoutMs: integer(1, 86_400_000, {
    value: 'MS',
    description: 'Longest time for bringing one remote source here; what has arrived by then is kept for the next try.',
    default: '600000',
  }),
  s3Endpoint: optionalText({
    value: 'URL',
    description: 'Where S3 is, for servers other than Amazon.',
    unset: '`AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, or Amazon',
  }),
  s3Region: optionalText({
    value: 'REGION',
    description: 'Region of the buckets.',
    unset: "`AWS_REGION` or the profile's",
  }),
  s3Addressing: choice(S3_ADDRESSING, {
    value: S3_ADDRESSING.join('|'),
    description: 'Where the name of a bucket stands in a URL; auto takes the path with an endpoint, the host without.',
    default: 'auto',
  }),
  hubEndpoint: optionalText({
    value: 'URL',
    description: 'The Hugging Face hub or a server that speaks like it.',
    unset: '`HF_ENDPOINT` or `https://huggingface.co`',
  }),
  dtype: choice(DTYPES, {
    value: DTYPES.join('|'),
    description:
      'Arithmetic of the base model: fp32 is exact, int8 is faster, auto chooses for the machine; int4 is for a GPU.',
    default: 'auto',
  }),
  device: choice(DEVICES, {
    value: DEVICES.join('|'),
    description: 'Where models run: the processor, a GPU through WebGPU, or a GPU if one is found (see docs/gpu.md).',
    default: 'cpu',
  }),
  deviceAdapterBytes: bytes(1, {
    value: 'BYTES',
    description: "Most bytes of a GPU's own memory for adapters that wait to be used; others are sent again.",
    default: '1GiB',
  }),
  deviceFloats: choice(DEVICE_FLOATS, {
    value: DEVICE_FLOATS.join('|'),
    description:
      'Floats of activations, key/value caches and adapters on a GPU: auto takes fp16 with int8 or int4 weights where the device has shader-f16; fp16 with --dtype fp32 holds for the weights, too.',
    default: 'auto',
  }),
  deviceKv: choice(DEVICE_KV, {
    value: DEVICE_KV.join('|'),
    description:
      'Where keys and values lie on a GPU: row by row, or in pages of 32 positions that rows share and take as they grow (16-bit floats; else plain, and the log says why).',
    default: 'plain',
  }),
  merge: optionalText({
    value: 'NAME[:WEIGHT],...',
    description: 'Adapters that become part of the weights when the model loads; it then takes no others.',
    unset: 'none',
  }),
  baseCheck: choice(BASE_CHECKS, {
    value: BASE_CHECKS.join('|'),
    description: 'What to do with an adapter whose config names another base model: refuse it, warn, or nothing.',
    default: 'warn',
  }),
  stateDir: optionalText({
    value: 'DIR|none',
    description:
      'Folder for what must outlive the process, such as registered adapters; `none` keeps nothing. Two servers that name the same folder share what is in it.',
    unset:
      '`$XDG_STATE_HOME/loramux` or `~/.local/state/loramux`, there one folder for each port and first model; `none` for the embedded demo and with `--port 0`',
  }),
  weightCache: choice(['on', 'off'], {
    value: 'on|off',
    description: 'Whether weights converted for int8 are kept in the cache folder, so that the next start is quick.',
    default: 'on',
  }),
  registry: optionalText({
    value: 'URL',
    description:
      'A Postgres database (`postgres://user@host:5432/database`) that several replicas share as their registry; its tables are made at start.',
    unset: 'a SQLite file in the state folder',
  }),
  host: text({
    value: 'HOST',
    description: 'Address to listen on; 0.0.0.0 makes the server reachable from elsewhere.',
    default: '127.0.0.1',
  }),
  port: integer(0, 65_535, { value: 'PORT', description: 'Port to listen on; 0 picks a free one.', default: '8080' }),
  logLevel: choice(LOG_LEVELS, { value: 'LEVEL', description: `One of ${LOG_LEVELS.join(', ')}.`, default: 'info' }),
  maxBodyBytes: bytes(1024, {
    value: 'BYTES',
    description: 'Largest request body that is read; more is answered with 413.',
    default: '64MiB',
    variables: ['SERVING_MAX_REQUEST_SIZE', 'SAGEMAKER_MAX_REQUEST_SIZE'],
  }),
  compat: choice(COMPAT_MODES, {
    value: COMPAT_MODES.join('|'),
    description:
      'Where a request names different adapters in several places: strict refuses it, djl lets the order of DJL Serving decide.',
    default: 'strict',
  }),
  corsOrigins: origins({
    value: 'ORIGIN,...',
    description: 'Origins whose pages may call the server from a browser, such as https://app.example; `*` is any.',
    unset: 'none: browsers keep pages of other origins from reading answers',
  }),
  laterBytes: bytes(65_536, {
    value: 'BYTES',
    description:
      'Memory of answers to fetch later (`x-synchronous: false`), of which each takes 4 KiB at least; the oldest complete ones make room.',
    default: '64MiB',
  }),
  laterKeepMs: integer(1, 86_400_000, {
    value: 'MS',
    description: 'How long a complete answer waits to be fetched.',
    default: '600000',
  }),
  handlerMs: integer(1, 86_400_000, {
    value: 'MS',
    description:
      'Time for an answer of a custom handler, and between two pieces of a stream; option.predict_timeout of a model wins.',
    default: '120000',
  }),
  handlerMemory: bytes(8 * 1024 * 1024, {
    value: 'BYTES',
    description: 'Largest JavaScript heap of a custom handler; a handler that needs more is started anew.',
    default: '256MiB',
  }),
  adapterHandlers: texts({
    value: 'DIR',
    description:
      'A folder whose adapters may bring a handler.ts, .js or .mjs, which is run in the server: code. Elsewhere such a file is told of and never run.',
    unset: 'none: no code of adapters is run',
  }),
  adapterHandlerThreads: integer(1, 1024, {
    value: 'THREADS',
    description:
      "Most threads of adapters' handlers at once; the one that was not needed for longest ends when another is.",
    default: '16',
  }),
  graceMs: integer(0, 3_600_000, {
    value: 'MS',
    description:
      'How long running requests may go on after SIGTERM, SIGINT or SIGHUP, or when their model is unregistered, before they end with an error.',
    default: '30000',
  }),
  maxQueue: integer(1, MAX_QUEUE, {
    value: 'ROWS',
    description: 'Most inputs that may wait or run at once; more are refused with 503.',
    default: '1000',
  }),
  maxBatch: integer(1, MAX_BATCH, {
    value: 'ROWS',
    description: 'Most inputs that are decoded together in one step.',
    default: '16',
  }),
  prefillChunk: integer(1, 65_536, {
    value: 'TOKENS',
    description:
      'Most prompt tokens that one step works on; while inputs run it is less, by what their steps and tokens cost.',
    default: '256',
  }),
  lookupTokens: integer(0, 64, {
    value: 'TOKENS',
    description:
      'Most tokens that a step guesses for an input that runs alone, from what followed the same tokens in it before; 0 turns it off. Without effect on a GPU.',
    default: '0',
  }),
  kvBytes: bytes(1, {
    value: 'BYTES',
    description:
      'Memory budget of the keys and values of running inputs; when it runs out, the newest ones wait and are computed again.',
    default: '512MiB',
  }),
  prefixCacheBytes: bytes(0, {
    value: 'BYTES',
    description: 'Memory budget of keys and values that are kept for prompts with the same beginning; 0 turns it off.',
    default: '256MiB',
  }),
  adapterBytes: bytes(1, { value: 'BYTES', description: 'Memory budget of loaded adapter weights.', default: '1GiB' }),
  stepTimeout: integer(0, 86_400, {
    value: 'SECONDS',
    description:
      'Longest time for one native call of an engine step; then the model is told to be unhealthy, its requests end and new ones are refused, until the call returns. 0 waits for ever.',
    default: '120',
  }),
  threads: integer(0, 1024, {
    value: 'COUNT',
    description:
      'Threads of the arithmetic; 0 takes one for each processor core, or as many as a cgroup allows the time of, and for models below 20 million weights at most two that leave a core free.',
    default: '0',
  }),
  engines: integer(1, 64, {
    value: 'COUNT',
    description:
      'Engine threads of each model on the processor. Several work on different rows side by side, and divide `--threads`, `--kv-bytes` and `--prefix-cache-bytes`; worth trying from four cores on.',
    default: '1',
  }),
});

/** Key of a setting, as in the resulting configuration. */
export type SettingKey = keyof typeof SETTINGS.shape;

/** Values of all settings, before the model folders are looked at. */
export type SettingValues = z.output<typeof SETTINGS>;

/** One setting with its names on each surface. */
export interface SettingEntry extends SettingMeta {
  readonly key: SettingKey;
  /** For example `--allow-path`. */
  readonly flag: string;
  /** For example `LORAMUX_ALLOW_PATH`. */
  readonly env: string;
}

/** All settings with their names, in the order of the schema. */
export const SETTING_ENTRIES: readonly SettingEntry[] = Object.entries(SETTINGS.shape).map(([key, schema]) => {
  const kebab = key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  const meta = schema.meta()?.setting as SettingMeta;
  return {
    ...meta,
    key: key as SettingKey,
    flag: `--${kebab}`,
    env: `LORAMUX_${kebab.replaceAll('-', '_').toUpperCase()}`,
  };
});
