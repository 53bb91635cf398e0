/** The shape of the tree: which way imports go, who touches the process, how long files are. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../', import.meta.url));

/** What each part may import besides itself. Parts are folders of server/, or files directly in it. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  errors: [],
  threads: [],
  cgroup: [],
  'regular-file': [],
  kernels: [],
  folders: [],
  'batch-bounds': [],
  model: ['errors', 'regular-file', 'kernels', 'adapters'],
  adapters: ['errors', 'regular-file', 'threads', 'cgroup', 'kernels'],
  sources: ['errors', 'regular-file', 'folders', 'adapters'],
  text: ['errors', 'regular-file'],
  registry: ['errors', 'regular-file', 'folders'],
  engine: ['errors', 'regular-file', 'folders', 'threads', 'cgroup', 'model', 'adapters'],
  service: [
    'errors',
    'batch-bounds',
    'regular-file',
    'threads',
    'cgroup',
    'model',
    'adapters',
    'sources',
    'text',
    'registry',
    'engine',
  ],
  config: ['errors', 'batch-bounds', 'regular-file', 'adapters', 'registry', 'sources'],
  observe: ['errors', 'service', 'engine', 'config'],
  listener: ['errors'],
  handlers: ['errors', 'regular-file', 'threads', 'adapters', 'service', 'config'],
  rpc: ['errors', 'service', 'listener'],
  rest: ['errors', 'batch-bounds', 'service', 'listener'],
  'start-message': ['service'],
  'check-adapter': ['errors', 'adapters', 'config', 'engine', 'model', 'sources'],
  doctor: ['cgroup', 'compose', 'config', 'engine', 'model', 'observe'],
  compose: [
    ...[
      'errors',
      'cgroup',
      'model',
      'adapters',
      'sources',
      'text',
      'registry',
      'engine',
      'service',
      'config',
      'observe',
      'listener',
    ],
    ...['rpc', 'rest', 'handlers'],
  ],
  main: [
    'errors',
    'threads',
    'check-adapter',
    'compose',
    'config',
    'doctor',
    'listener',
    'observe',
    'start-message',
    'service',
    'sources',
    'adapters',
    'model',
    'engine',
  ],
};

interface Source {
  readonly path: string;
  readonly text: string;
}

function sources(folder: string): Source[] {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true }).flatMap((entry) => {
    const path = relative(root, join(entry.parentPath, entry.name));
    if (!entry.isFile() || !/\.(ts|mjs)$/.test(entry.name) || /(^|\/)(node_modules|dist)\//.test(path)) return [];
    return [{ path, text: readFileSync(join(root, path), 'utf8') }];
  });
}

/** Relative imports of a source, as paths from the root without extension. */
function imports({ path, text }: Source): string[] {
  return [...text.matchAll(/(?:from|import)\s*\(?\s*'(\.[^']+)'/g)].map(([, target]) =>
    normalize(join(dirname(path), target!)).replace(/\.(js|ts|mjs)$/, ''),
  );
}

const partOf = (path: string): string => path.split('/')[1]!.replace(/\.(ts|mjs)$/, '');

test('imports in server/ go one way', () => {
  const wrong = sources('server').flatMap((source) => {
    const part = partOf(source.path);
    const allowed = ALLOWED[part];
    if (allowed === undefined)
      return ['server/thread.mjs', 'server/source-lines.mjs'].includes(source.path)
        ? []
        : [`${source.path} belongs to no known part`];
    return imports(source)
      .filter((target) => target.startsWith('server/'))
      .filter((target) => partOf(target) !== part && !allowed.includes(partOf(target)))
      .map((target) => `${source.path} imports ${target}`);
  });
  assert.deepEqual(wrong, []);
});

test('only the RPC surface and the SDK know generated code, and the SDK knows nothing of the server', () => {
  const wrong = [
    ...sources('server').flatMap((source) =>
      imports(source).some((target) => target.startsWith('gen/')) && !/^server\/(rpc|kernels)\//.test(source.path)
        ? [source.path]
        : [],
    ),
    ...sources('sdk').flatMap((source) =>
      imports(source).some((target) => target.startsWith('server/')) ? [source.path] : [],
    ),
  ];
  assert.deepEqual(wrong, []);
});

test('the engine knows neither Connect nor HTTP', () => {
  const known = /'(@connectrpc|fastify|node:http2?|pino|prom-client)/;
  assert.deepEqual(
    sources('server/engine').filter(({ text }) => known.test(text)),
    [],
  );
});

test('only main touches the process', () => {
  // In the entry of threads it is the thread.
  const may = ['server/main.ts', 'server/thread.mjs'];
  const wrong = sources('server').filter(({ path, text }) => !may.includes(path) && /\bprocess\.[a-z]/.test(text));
  assert.deepEqual(
    wrong.map(({ path }) => path),
    [],
  );
});

test('files hold one concept: none is longer than 400 lines', () => {
  const long = ['server', 'sdk', 'bench', 'scripts']
    .flatMap(sources)
    .filter(({ text }) => text.split('\n').length > 400);
  assert.deepEqual(
    long.map(({ path }) => path),
    [],
  );
});
