import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { ConfigError } from '../../server/config/config-error.js';
import { parseInvocation } from '../../server/config/parse.js';
import type { ServeConfig } from '../../server/config/serve-config.js';
import { SETTING_ENTRIES } from '../../server/config/settings.js';

let root: string;
let model: string;

before(() => {
  root = mkdtempSync(path.join(tmpdir(), 'loramux-config-'));
  model = path.join(root, 'base');
  mkdirSync(path.join(model, 'adapters'), { recursive: true });
  writeFileSync(path.join(model, 'config.json'), '{}');
  mkdirSync(path.join(root, 'models', 'demo'), { recursive: true });
  writeFileSync(path.join(root, 'models', 'demo', 'config.json'), '{}');
  mkdirSync(path.join(root, 'extra'));
});
after(() => rmSync(root, { recursive: true, force: true }));

const invoke = (argv: string[], env: Record<string, string> = {}) =>
  parseInvocation({ argv, env, cwd: root, packageRoot: root, version: '1.2.3' });

function configOf(argv: string[], env?: Record<string, string>): ServeConfig {
  const invocation = invoke(['serve', ...argv], env);
  assert.equal(invocation.kind, 'serve');
  return (invocation as { config: ServeConfig }).config;
}

function faultOf(argv: string[], env?: Record<string, string>): string {
  let message = '';
  assert.throws(
    () => invoke(argv, env),
    (error: Error) => {
      message = error.message;
      return error instanceof ConfigError && !message.includes('\n');
    },
  );
  return message;
}

test('without flags the demo model is served on the documented address', () => {
  const config = configOf([]);
  assert.deepEqual(
    config.models.map((source) => [source.name, source.path]),
    [['demo', path.join(root, 'models', 'demo')]],
  );
  assert.equal(config.host, '127.0.0.1');
  assert.equal(config.port, 8080);
  assert.equal(config.maxBodyBytes, 64 * 1024 * 1024);
  assert.equal(config.maxBatch, 16);
  assert.equal(config.dtype, 'auto');
});

test('a model is named by its folder or by NAME=', () => {
  assert.equal(configOf(['--model', 'base']).models[0]!.name, 'base');
  const named = configOf(['--model', `mine=${model}`]).models[0]!;
  assert.equal(named.name, 'mine');
  assert.equal(named.path, model);
  assert.deepEqual(named.adapterFolders, [path.join(model, 'adapters')]);
});

test('models of a store are not named without one', () => {
  assert.match(faultOf(['serve', '--load-models', 'base']), /^--load-models base: goes with --model-store/);
  assert.match(faultOf(['serve'], { SERVING_LOAD_MODELS: 'a,b' }), /^--load-models a,b: goes with --model-store/);
  for (const all of ['ALL', 'none']) assert.equal(configOf(['--load-models', all]).loadModels, all);
  assert.equal(configOf(['--load-models', 'base', '--model-store', root]).loadModels, 'base');
});

const skip = process.getuid?.() === 0 ? false : 'only root may become another user';
test('a folder that this user may not read is told as such, not as empty', { skip }, () => {
  const closed = path.join(root, 'closed');
  mkdirSync(closed, { mode: 0o700 });
  chmodSync(root, 0o755);
  process.seteuid!(65534);
  try {
    const why = `${closed} cannot be read (EACCES)`;
    assert.equal(faultOf(['serve', '--model', closed]), `--model ${closed}: ${why}`);
    assert.equal(faultOf(['serve', '--model', model, '--adapters', closed]), `--adapters ${closed}: ${why}`);
  } finally {
    process.seteuid!(0);
  }
});

test('several models need different names', () => {
  assert.deepEqual(
    configOf(['--model', 'a=base', '--model', 'b=base']).models.map((source) => source.name),
    ['a', 'b'],
  );
  assert.match(faultOf(['serve', '--model', 'base', '--model', 'base']), /two models are named "base"/);
  const shared = ['serve', '--model', 'a=base', '--model', 'b=base', '--adapters', 'extra'];
  assert.match(faultOf(shared), /--adapters goes with one --model/);
});

test('sizes take units', () => {
  assert.equal(configOf(['--kv-bytes', '2GB']).kvBytes, 2e9);
  assert.equal(configOf(['--kv-bytes', '1.5MiB']).kvBytes, 1.5 * 1024 * 1024);
  assert.equal(configOf(['--kv-bytes', '65536']).kvBytes, 65536);
  assert.match(faultOf(['serve', '--kv-bytes', 'lots']), /^--kv-bytes lots: must be a number of bytes/);
});

test('the environment fills what no flag says', () => {
  const env = { LORAMUX_PORT: '0', LORAMUX_DTYPE: 'fp32', LORAMUX_ALLOW_PATH: `extra${path.delimiter}${model}` };
  const config = configOf(['--dtype', 'int8'], env);
  assert.equal(config.port, 0);
  assert.equal(config.dtype, 'int8');
  assert.deepEqual(config.allowPaths, [path.join(root, 'extra'), model]);
  assert.match(faultOf(['serve'], { LORAMUX_PORT: 'eighty' }), /^LORAMUX_PORT eighty: must be a whole number/);
});

test('a variable that is no setting is told, with names that are near', () => {
  const remarksOf = (env: Record<string, string>) => configOf([], env).environment.remarks;
  assert.deepEqual(remarksOf({ LORAMUX_STATEDIR: '/state', LORAMUX_MODLE: 'm', LORAMUX_DTYPE: 'fp32' }), [
    'LORAMUX_MODLE is ignored: there is no such setting; near names: LORAMUX_MODEL',
    'LORAMUX_STATEDIR is ignored: there is no such setting; near names: LORAMUX_STATE_DIR',
  ]);
  assert.deepEqual(remarksOf({ LORAMUX_ENTIRELY_ELSE: '1' }), [
    'LORAMUX_ENTIRELY_ELSE is ignored: there is no such setting',
  ]);
  assert.match(remarksOf({ LORAMUX_HTTP_PORT: '80' })[0]!, /^LORAMUX_HTTP_PORT is ignored/);
  assert.deepEqual(remarksOf({ LORAMUX_STATEDIR: '', LORAMUXSTATE: '1', loramux_port: '1' }), []);
});

test('folders of the user count where they are absolute, and others are told', () => {
  const { environment, sources } = configOf([], { HOME: '/home/user', XDG_STATE_HOME: 'state', XDG_CACHE_HOME: './c' });
  assert.deepEqual(environment.remarks, [
    'XDG_STATE_HOME=state is ignored: it is no absolute path',
    'XDG_CACHE_HOME=./c is ignored: it is no absolute path',
  ]);
  assert.deepEqual(sources.cacheDir, '/home/user/.cache/loramux');
  assert.equal(sources.hubCache, '/home/user/.cache/huggingface/hub');
  assert.deepEqual(configOf([], { HOME: '/home/user', XDG_STATE_HOME: '' }).environment.remarks, []);
});

test('a folder of adapters that is an adapter itself is refused with what would be right', () => {
  const folder = mkdtempSync(path.join(root, 'pool-'));
  const adapter = path.join(folder, 'sql');
  mkdirSync(adapter);
  writeFileSync(path.join(adapter, 'adapter_config.json'), '{}');
  const told = `${adapter} is an adapter itself; name the folder whose sub-folders are adapters, such as ${folder}`;
  const flag = `--adapters ${adapter}`;
  assert.equal(faultOf(['serve', '--model', 'base', ...flag.split(' ')]), `${flag}: ${told}`);
  const served = mkdtempSync(path.join(root, 'served-'));
  const properties = path.join(served, 'serving.properties');
  writeFileSync(path.join(served, 'config.json'), '{}');
  writeFileSync(properties, `option.adapters=${adapter}\n`);
  assert.equal(faultOf(['serve', '--model', served]), `${properties}: option.adapters=${adapter}: ${told}`);
  assert.deepEqual(configOf(['--model', 'base', '--adapters', folder]).models[0]!.adapterFolders, [folder]);
  // As PEFT saves several adapters at once: one in the folder, the others below it.
  mkdirSync(path.join(adapter, 'other'));
  writeFileSync(path.join(adapter, 'other', 'adapter_config.json'), '{}');
  assert.deepEqual(configOf(['--model', 'base', '--adapters', adapter]).models[0]!.adapterFolders, [adapter]);
});

test('what Kubernetes sets for a service named loramux is no setting of the server', () => {
  const address = 'tcp://10.0.0.7:80';
  const link = { HOST: '10.0.0.7', PORT: '80', PROTO: 'tcp', ADDR: '10.0.0.7' };
  const env = {
    ...{ LORAMUX_SERVICE_HOST: link.HOST, LORAMUX_SERVICE_PORT: link.PORT, LORAMUX_SERVICE_PORT_HTTP: link.PORT },
    ...{ LORAMUX_PORT: address, LORAMUX_PORT_80_TCP: address, LORAMUX_PORT_80_TCP_PROTO: link.PROTO },
    ...{ LORAMUX_PORT_80_TCP_PORT: link.PORT, LORAMUX_PORT_80_TCP_ADDR: link.ADDR, LORAMUX_CANARY_PORT: address },
  };
  const config = configOf([], env);
  assert.deepEqual([config.port, config.environment.remarks], [8080, []]);
});

test('a variable of several values has URLs with ports beside folders', { skip: path.delimiter !== ':' }, () => {
  const digest = '0'.repeat(64);
  const given = [
    `local=${model}`,
    's3://bucket',
    'hub=hf://org/name@v1.0/folder',
    `http://127.0.0.1:8000/m.tgz#sha256=${digest}`,
    `six=http://[::1]:8000/m.tgz#sha256=${digest}`,
    'https://user:S3CR3T@files.example/n.tgz',
    'org/other',
  ];
  const { models, remoteModels } = configOf([], { LORAMUX_MODEL: given.join(':') });
  assert.deepEqual(
    [...models.map(({ name, path }) => `${name}=${path}`), ...remoteModels.map(({ url }) => url)],
    [given[0], given[1], given[2]!.slice(4), given[3], given[4]!.slice(4), given[5], 'hf://org/other'],
  );
});

test('origins are taken as browsers send them', () => {
  for (const origins of [
    '*',
    'null',
    'https://a.example, http://localhost:5173',
    'capacitor://localhost',
    'http://[::1]:80',
  ]) {
    assert.equal(configOf(['--cors-origins', origins]).corsOrigins, origins);
  }
});

test('every setting has a flag and a variable that reach the configuration', () => {
  for (const entry of SETTING_ENTRIES) {
    assert.match(entry.flag, /^--[a-z][a-z0-9-]+$/);
    assert.match(entry.env, /^LORAMUX_[A-Z0-9_]+$/);
    assert.ok(entry.default !== undefined || entry.unset !== undefined, `${entry.flag} says what its absence means`);
  }
});

test('bad usage is told in one line that says what would be right', () => {
  assert.match(faultOf(['serve', '--prot', '1']), /unknown option '--prot' \(Did you mean --port\?\)/);
  assert.match(faultOf(['serve', '--port', '70000']), /--port 70000: must be at most 65535/);
  assert.match(faultOf(['serve', '--port', '-1']), /--port|argument/);
  assert.match(faultOf(['serve', '--port']), /--port <PORT>' argument missing/);
  assert.match(faultOf(['serve', '--dtype', 'fp8']), /--dtype fp8: must be one of auto, fp32, int8/);
  assert.match(faultOf(['serve', '--port', '1', '--port', '2']), /given twice/);
  assert.match(faultOf(['serve', 'extra']), /too many arguments/);
  assert.match(faultOf(['server']), /unknown command 'server'/);
  assert.match(faultOf(['serve', '--model', 'nowhere']), /there is no folder .*nowhere/);
  assert.match(faultOf(['serve', '--model', 'extra']), /config\.json is missing/);
  assert.match(faultOf(['serve', '--model', 'a b=base']), /no usable model name/);
  assert.match(faultOf(['serve', '--adapters', 'nowhere']), /--adapters nowhere: there is no folder/);
  assert.match(faultOf(['serve', '--allow-path', 'nowhere']), /--allow-path nowhere: there is no folder/);
  for (const name of ['a', 'b']) mkdirSync(path.join(model, 'adapters', name), { recursive: true });
  symlinkSync(path.join(model, 'adapters', 'a'), path.join(model, 'adapters', 'same'));
  const merging = (merge: string) => ['serve', '--model', 'base', '--merge', merge];
  assert.match(faultOf(merging('a,b:0.5,a:2')), /^--merge a,b:0\.5,a:2: "a" is named twice; it must be named once/);
  assert.match(faultOf(merging('a,same')), /"a" and "same" are one adapter; it must be named once, with its whole/);
  for (const wrong of [
    'app.example',
    'https://app.example/',
    'https://App.example',
    'https://*.example',
    'https://a.example,b.example',
  ]) {
    assert.match(faultOf(['serve', '--cors-origins', wrong]), /" is no origin, such as https:\/\/app\.example/, wrong);
  }
});

test('a path that the file system refuses is told in one line, too', () => {
  const loop = path.join(root, 'loop');
  symlinkSync(loop, loop);
  const unreadable = path.join(root, 'unreadable');
  mkdirSync(path.join(unreadable, 'serving.properties'), { recursive: true });
  writeFileSync(path.join(unreadable, 'config.json'), '{}');
  for (const argv of [
    ...['--model', '--adapters', '--model-store', '--allow-path', '--workflow'].map((flag) => [flag, loop]),
    ['--model', path.join(model, 'config.json', 'x')],
    ['--model', 'a'.repeat(300)],
  ]) {
    assert.ok(faultOf(['serve', ...argv]).includes(argv[1]!), argv.join(' '));
  }
  assert.match(faultOf(['serve', '--model', unreadable]), /EISDIR/);
});

test('help and version are printed, not served', () => {
  for (const argv of [[], ['--help'], ['serve', '--help'], ['help']]) {
    const invocation = invoke(argv);
    assert.ok(invocation.kind === 'print' && /Usage: loramux/.test(invocation.text), argv.join(' '));
  }
  assert.deepEqual(invoke(['--version']), { kind: 'print', text: '1.2.3\n' });
});

test('serving.properties is honoured, and every other key is remarked on', () => {
  const folder = path.join(root, 'djl');
  mkdirSync(folder, { recursive: true });
  const properties = (lines: string[]) => writeFileSync(path.join(folder, 'serving.properties'), lines.join('\n'));
  properties(['engine=Python', 'option.model_id=../base', 'option.dtype=bf16', 'option.max_loras=8']);
  const source = configOf(['--model', 'djl']).models[0]!;
  assert.equal(source.name, 'djl');
  assert.equal(source.path, model);
  assert.equal(source.dtype, 'auto');
  assert.ok(source.loraEnabled);
  assert.deepEqual(source.adapterFolders, [path.join(model, 'adapters')]);
  assert.equal(source.warnings.length, 2);
  assert.match(source.warnings[1]!, /option\.dtype=bf16/);
  assert.match(source.warnings[0]!, /option\.max_loras=8 is ignored: adapters have no slots/);

  properties(['option.model_id=../base', 'option.enable_lora=false', 'option.dtype=int8']);
  const plain = configOf(['--model', 'djl']).models[0]!;
  assert.equal(plain.loraEnabled, false);
  assert.deepEqual(plain.adapterFolders, []);
  assert.equal(plain.dtype, 'int8');
  assert.equal(configOf(['--model', 'djl', '--dtype', 'fp32']).models[0]!.dtype, 'fp32');

  // What is wrong is told with the file and the key, or with the variable.
  const at = (key: string) => new RegExp(`^${folder}/serving\\.properties: ${key}`);
  properties(['option.model_id=../base', 'option.merge=nobody']);
  assert.match(faultOf(['serve', '--model', 'djl']), at('option\\.merge=nobody: there is no adapter "nobody"'));
  mkdirSync(path.join(folder, 'empty'));
  properties(['option.model_id=empty']);
  assert.match(faultOf(['serve', '--model', 'djl']), at('option\\.model_id: there is no model in \\S+empty '));
  properties(['option.model_id=../base']);
  const asked = faultOf(['serve', '--model', 'djl'], { OPTION_ADAPTERS: 'nowhere' });
  assert.match(asked, /^OPTION_ADAPTERS names no folder: \S+nowhere$/);

  mkdirSync(path.join(model, 'adapters', 'fr'), { recursive: true });
  const base = ['option.model_id=../base', 'option.enable_lora=false'];
  properties([...base, 'option.merge=fr']);
  assert.match(
    faultOf(['serve', '--model', 'djl']),
    /^\S+serving\.properties: option\.merge=fr: .*option\.enable_lora=false .*the base only/,
  );
  properties(base);
  assert.match(faultOf(['serve', '--model', 'djl', '--merge', 'fr']), /^--merge fr: .*option\.enable_lora=false/);
  const ignored = configOf(['--model', 'djl', '--adapters', path.join(model, 'adapters')]).models[0]!;
  assert.match(ignored.warnings.join(), /^--adapters \S+ is ignored: option\.enable_lora=false/);
  properties([...base, 'option.adapters=../base/adapters']);
  const own = configOf(['--model', 'djl']).models[0]!;
  assert.match(own.warnings.join(), /option\.adapters=\S+ is ignored: option\.enable_lora=false/);

  properties(['option.model_id=../base', 'option.dtype=int8', '# again', 'option.dtype: fp32']);
  const twice = configOf(['--model', 'djl']).models[0]!;
  assert.equal(twice.dtype, 'fp32');
  assert.match(twice.warnings.join(), /^\S+: option\.dtype=fp32 counts, as the last of the lines 2, 4, which all give/);

  properties(['option.model_id=../nowhere']);
  assert.match(faultOf(['serve', '--model', 'djl']), /option\.model_id names no folder/);
  properties(['option.model_id=s3://bucket/key']);
  const [remote, ...others] = configOf(['--model', 'djl']).remoteModels;
  assert.deepEqual([remote?.name, remote?.url, others], ['djl', folder, []]);
  const checked = invoke(['validate', 'extra', '--model', 'djl']);
  assert.ok(checked.kind === 'validate' && 'url' in checked.model, 'a remote model is fetched to check against it');
  properties(['option.model_id=../base', 'option.enable_lora=perhaps']);
  assert.match(faultOf(['serve', '--model', 'djl']), /must be true or false/);
});

test('the registry is kept for each port and model, unless it is named or there is nothing to find it again by', () => {
  const env = { HOME: '/home/user' };
  const place = (argv: string[], other: Record<string, string> = env) => configOf(argv, other).registry;
  assert.deepEqual(place([]), { kind: 'memory' });
  assert.deepEqual(place(['--model', 'base', '--port', '0']), { kind: 'memory' });
  assert.deepEqual(place(['--model', 'base', '--state-dir', 'none']), { kind: 'memory' });
  const dirOf = (argv: string[], other?: Record<string, string>) => {
    const found = place(argv, other);
    assert.ok(found.kind === 'folder');
    return found.dir;
  };
  assert.match(dirOf(['--model', 'base']), /^\/home\/user\/\.local\/state\/loramux\/8080-base-[0-9a-f]{8}$/);
  assert.match(dirOf(['--model', 'base'], { ...env, XDG_STATE_HOME: '/state' }), /^\/state\/loramux\/8080-base-/);
  assert.equal(
    dirOf(['--model', 'base', '--model', 'second=base']),
    dirOf(['--model', 'base']),
    'a model may be added',
  );
  assert.notEqual(dirOf(['--model', 'base', '--port', '8081']), dirOf(['--model', 'base']));
  for (const ignored of ['', 'state', './state']) {
    const inHome = dirOf(['--model', 'base'], { ...env, XDG_STATE_HOME: ignored });
    assert.match(inHome, /^\/home\/user\/\.local\/state\/loramux\//);
  }
  assert.equal(dirOf(['--state-dir', 'kept']), path.join(root, 'kept'));
  const url = 'postgres://loramux@127.0.0.1:5432/registry';
  assert.deepEqual(place(['--registry', url]), { kind: 'postgres', url });
  assert.match(faultOf(['serve', '--registry', 'mysql://x']), /--registry must be a Postgres URL/);
});

test('remote sources: flags first, then the variables of the tools they belong to', () => {
  const env = { HOME: path.join(root, 'home'), HF_TOKEN: 'hf_x', AWS_ENDPOINT_URL_S3: 'http://127.0.0.1:9' };
  const { sources } = configOf([], env);
  assert.deepEqual([sources.allow, sources.hub], [[], { endpoint: 'https://huggingface.co', token: 'hf_x' }]);
  assert.equal(sources.cacheDir, path.join(root, 'home', '.cache', 'loramux'));
  assert.equal(sources.hubCache, path.join(root, 'home', '.cache', 'huggingface', 'hub'));
  assert.deepEqual(sources.s3, { endpoint: 'http://127.0.0.1:9', region: undefined, pathStyle: true });
  const given = configOf(['--cache-dir', 'c', '--hub-endpoint', 'http://hub.test', '--s3-addressing', 'host'], {
    ...env,
    LORAMUX_ALLOW_SOURCE: 's3://b/p,hf://org/*',
    HF_HUB_CACHE: path.join(root, 'hf'),
  }).sources;
  assert.deepEqual(given.allow, ['s3://b/p', 'hf://org/*']);
  assert.deepEqual([given.cacheDir, given.hubCache], [path.join(root, 'c'), path.join(root, 'hf')]);
  assert.deepEqual([given.hub.endpoint, given.s3.pathStyle], ['http://hub.test', false]);
  assert.match(faultOf(['serve', '--allow-source', 'ftp://x']), /--allow-source "ftp:\/\/x": must begin with s3:/);
  assert.match(faultOf(['serve', '--hub-endpoint', 'https://a:b@x']), /^--hub-endpoint must be an http: or https: URL/);
});
