/** Every key of a `serving.properties`: what it does, what is told of it, and what the environment says instead. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, describe, it } from 'node:test';
import { ConfigError } from '../../server/config/config-error.js';
import { IGNORED_KEYS, KEY_NAMES } from '../../server/config/ignored-keys.js';
import { parseInvocation } from '../../server/config/parse.js';
import type { ServeConfig } from '../../server/config/serve-config.js';
import { servingEnvironment } from '../../server/config/serving-env.js';
import { type EffectiveKey, SERVING_KEYS } from '../../server/config/serving-keys.js';
import { readServingProperties } from '../../server/config/serving-properties.js';

const root = mkdtempSync(path.join(tmpdir(), 'loramux-serving-'));
after(() => rmSync(root, { recursive: true, force: true }));
const base = path.join(root, 'base');
mkdirSync(base);
writeFileSync(path.join(base, 'config.json'), '{}');
mkdirSync(path.join(root, 'models/demo'), { recursive: true });
writeFileSync(path.join(root, 'models/demo/config.json'), '{}');

type Variables = Readonly<Record<string, string>>;
const read = (text: string, env: Variables = {}) => readServingProperties(text, 'F', servingEnvironment(env));
const fault = (text: string, env: Variables = {}): string => {
  try {
    read(text, env);
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    return error.message;
  }
  return assert.fail(`${text} was taken`);
};

function serve(argv: readonly string[], env: Variables = {}): ServeConfig {
  const surroundings = { argv: ['serve', ...argv], env, cwd: root, packageRoot: root, version: '1' };
  const invocation = parseInvocation(surroundings);
  return invocation.kind === 'serve' ? invocation.config : assert.fail('not serving');
}

describe('keys of serving.properties', () => {
  it('are each named once', () => {
    assert.deepEqual([...new Set(KEY_NAMES)], KEY_NAMES);
    for (const { keys, silent = [] } of IGNORED_KEYS)
      for (const one of silent) assert.equal(one, one.toLowerCase(), keys[0]);
  });

  it('that have an effect set what they say', () => {
    const all = read(
      [
        'engine=Python',
        'option.model_id=../base',
        'option.revision=v1',
        'option.enable_lora=False',
        'option.adapters=mine',
        'option.max_lora_rank=32',
        'option.merge=a:0.5',
        'option.entryPoint=h.ts',
        'option.predict_timeout=7',
        'option.dtype=float32',
        'option.max_rolling_batch_size=4',
        'batch_size=9',
        'job_queue_size=10',
        'option.enable_prefix_caching=false',
      ].join('\n'),
    );
    const { all: every, names, ...set } = all;
    assert.deepEqual(set, {
      ...{ modelId: '../base', revision: 'v1', enableLora: false, adapters: 'mine', maxLoraRank: 32, merge: 'a:0.5' },
      ...{ entryPoint: 'h.ts', predictTimeoutS: 7, dtype: 'fp32', maxBatch: 4, maxQueue: 10, prefixCaching: false },
      warnings: [],
    });
    assert.equal(Object.keys(every).length, 14);
    assert.equal(names.merge, 'F: option.merge');
  });

  it('have other names, of which the key itself wins', () => {
    assert.equal(read('option.s3url=s3://b/k').modelId, 's3://b/k');
    assert.equal(read('max_dynamic_batch_size=3').maxBatch, 3);
    const both = read('max_dynamic_batch_size=3\nbatch_size=2');
    assert.equal(both.maxBatch, 2);
    assert.deepEqual(both.warnings, ['F: max_dynamic_batch_size is ignored: batch_size is there, too']);
  });

  it('that ask for what the original has anyway are without effect', () => {
    const same = read(
      'batch_size=1\nminWorkers=1\nmaxWorkers=-1\noption.rolling_batch=vllm\noption.trust_remote_code=false',
    );
    assert.deepEqual([same.maxBatch, same.warnings], [undefined, []]);
  });

  it('int8 is asked for by dtype or by ways to quantise; other ways are told', () => {
    assert.equal(read('option.quantize=bitsandbytes8\noption.dtype=fp32').dtype, 'int8');
    const other = read('option.quantize=awq\noption.dtype=bf16');
    assert.equal(other.dtype, 'auto');
    assert.match(other.warnings[0]!, /^F: option\.quantize=awq is ignored: weights are served as they are or as int8/);
    assert.equal(other.warnings[1], 'F: option.dtype=bf16 is not served: auto is used');
  });

  it('that have none are each told with a reason', () => {
    const sample = (expects: string) => (/^true/.test(expects) ? 'true' : /number/.test(expects) ? '1' : 'x');
    for (const { keys, value, why, silent = [] } of IGNORED_KEYS) {
      for (const key of keys) {
        const given = [sample(value.expects), '2', 'false'].find(
          (one) => value.read(one) !== undefined && !silent.includes(one),
        );
        if (given === undefined) continue;
        assert.deepEqual(read(`${key}=${given}`).warnings, [
          `F: ${key}=${given} is ignored: ${why.replaceAll('`', '')}`,
        ]);
      }
    }
  });

  it('that nobody knows are told with near names', () => {
    assert.deepEqual(read('option.max_lora=4\nfoo_bar=1').warnings, [
      'F: option.max_lora is ignored: there is no such key; near names: option.max_loras, option.max_lora_rank',
      'F: foo_bar is ignored: there is no such key',
    ]);
    assert.match(read('option.entrypoint=a.ts').warnings[0]!, /near names: option\.entryPoint/);
    // A handler has options of its own.
    assert.deepEqual(read('option.entryPoint=h.ts\noption.own=1').warnings, []);
    assert.match(
      read('option.entryPoint=h.ts\noption.max_lora=1').warnings[0]!,
      /only the handler sees it; near names/,
    );
  });

  it('in another encoding are an error, not keys that nobody knows', () => {
    const utf16 = Buffer.from('\ufeffoption.enable_lora=false\n', 'utf16le').toString('utf8');
    assert.match(fault(utf16), /^F: is no UTF-8 text; save it as UTF-8/);
    assert.equal(read('\ufeffoption.enable_lora=false\r\n').enableLora, false);
  });

  it('with a bad value are an error that says what would be right', () => {
    for (const [line, expects] of [
      ['option.enable_lora=perhaps', 'must be true or false'],
      ['option.max_lora_rank=0', 'must be a whole number of at least 1'],
      ['option.max_rolling_batch_size=2048', 'must be a whole number between 1 and 1024'],
      ['job_queue_size=many', 'must be a whole number between 1 and 1000000'],
      ['option.dtype=fp8', 'must be one of auto, int8, fp32'],
      ['option.model_id=', 'must be a text that is not empty'],
      ['option.max_loras=four', 'must be a whole number of at least 1'],
      ['option.tensor_parallel_degree=all', 'must be a whole number of at least 1, or max, auto'],
      ['option.gpu_memory_utilization=1.5', 'must be a number between 0 and 1'],
      ['option.entryPoint=model.py', 'must be a .ts, .js or .mjs file inside the folder'],
    ] as const) {
      assert.ok(fault(line).startsWith(`F: ${line}: ${expects}`), fault(line));
    }
  });
});

describe('the environment', () => {
  it('fills what the file does not have, in the order of its forms', () => {
    const env = {
      OPTION_MAX_LORA_RANK: '8',
      OPTION_ENTRYPOINT: 'h.mjs',
      SERVING_JOB_QUEUE_SIZE: '5',
      SERVING_MIN_WORKERS: '1',
      MAX_CONCURRENT_REQUESTS: '6',
      MAX_BATCH_SIZE: '2',
      OPTION_MY_OWN: 'x',
    };
    const filled = read('', env);
    assert.deepEqual([filled.maxLoraRank, filled.entryPoint, filled.maxQueue, filled.maxBatch], [8, 'h.mjs', 5, 2]);
    assert.equal(filled.all['option.my_own'], 'x');
    assert.equal(read('option.max_lora_rank=16\nmax_dynamic_batch_size=7', env).maxLoraRank, 16);
    assert.equal(read('option.max_num_seqs=7', env).maxBatch, 7);
  });

  it('is named in errors and remarks', () => {
    assert.match(fault('', { OPTION_ENABLE_LORA: 'x' }), /^OPTION_ENABLE_LORA=x: must be true or false/);
    assert.match(fault('', { MAX_BATCH_SIZE: '0' }), /^MAX_BATCH_SIZE=0: must be a whole number/);
    assert.match(
      read('', { OPTION_MAX_LORAS: '4' }).warnings[0]!,
      /^OPTION_MAX_LORAS=4 is ignored: adapters have no slots/,
    );
    assert.deepEqual(servingEnvironment({ SERVING_FEATURES: 'x', SERVING_MODEL_STORE: '/m' }).remarks, [
      'SERVING_FEATURES is ignored: there is no such key',
    ]);
  });

  it('has every variable of the table once', () => {
    const named = [
      ...Object.values(SERVING_KEYS).flatMap(({ variables = [] }: EffectiveKey<unknown>) => variables),
      ...IGNORED_KEYS.flatMap(({ variables = {} }) => Object.keys(variables)),
    ];
    assert.deepEqual([...new Set(named)], named);
  });

  it('names the model where no flag does, and never another one for a folder that has one', () => {
    assert.equal(serve([]).models[0]!.name, 'demo');
    const served = serve([], { HF_MODEL_ID: 'base' }).models[0]!;
    assert.deepEqual([served.name, served.path, served.warnings], ['base', base, []]);
    assert.equal(serve([], { HF_MODEL_ID: 'none', OPTION_MODEL_ID: base }).models[0]!.path, base);
    const kept = serve(['--model', 'models/demo'], { HF_MODEL_ID: base }).models[0]!;
    assert.equal(kept.path, path.join(root, 'models/demo'));
    assert.match(kept.warnings[0]!, /^HF_MODEL_ID is ignored: there is a model in /);
    mkdirSync(path.join(root, 'settings'), { recursive: true });
    writeFileSync(path.join(root, 'settings/serving.properties'), 'option.max_rolling_batch_size=3\n');
    const lead = serve(['--model', 'settings'], { OPTION_MODEL_ID: base, SERVING_BATCH_SIZE: '9' }).models[0]!;
    assert.deepEqual([lead.path, lead.limits.maxBatch], [base, 3]);
  });

  it('names a model elsewhere; a slip in a path asks no hub', () => {
    const remote = (argv: readonly string[], env: Variables = {}) =>
      serve(argv, env).remoteModels.map(({ name, url }) => [name, url]);
    assert.deepEqual(remote([], { HF_MODEL_ID: 'org/name', HF_REVISION: 'v/1' }), [['name', 'hf://org/name@v%2F1']]);
    assert.deepEqual(remote([], { OPTION_MODEL_ID: 's3://b/k/base' }), [['base', 's3://b/k/base']]);
    assert.deepEqual(
      remote(['--model', 'mine=hf://org/name@v2/sub', '--model', 'https://h.test/x.tar.gz?s=1#sha256=0']),
      [
        ['mine', 'hf://org/name@v2/sub'],
        ['x', 'https://h.test/x.tar.gz?s=1#sha256=0'],
      ],
    );
    assert.throws(() => serve(['--model', 'models/demoo']), /there is no folder or \.gguf file .*demoo/);
    assert.throws(() => serve(['--model', 'a=org/x', '--model', 'a=org/y']), /two models are named "a"/);
    assert.throws(() => serve(['--model', 's3://b/k/a b']), /"a b" is no usable model name/);
  });

  it('has the variables of the server', () => {
    mkdirSync(path.join(root, 'store'), { recursive: true });
    const config = serve([], {
      SERVING_MODEL_STORE: 'store',
      SERVING_LOAD_MODELS: 'NONE',
      SERVING_MAX_REQUEST_SIZE: '2048',
    });
    assert.deepEqual([config.modelStore, config.loadModels], [path.join(root, 'store'), 'NONE']);
    assert.equal(config.maxBodyBytes, 2048);
    assert.equal(serve([], { SERVING_MAX_REQUEST_SIZE: '2048', LORAMUX_MAX_BODY_BYTES: '4096' }).maxBodyBytes, 4096);
  });
});
