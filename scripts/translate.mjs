// TypeScript into the files of a compiled copy: module by module, or the server with its dependencies in few files.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

/** These run outside of any copy: some are native, others are loaded only by who uses what they are for. */
const EXTERNAL = ['onnxruntime-node', 'libsql', 'kysely', 'pg', '@aws-sdk/*', '@huggingface/hub', 'esbuild', 'tsx'];
/** The module of the SDK that handlers of users import (server/handlers/resolve-sdk.mjs). */
const HANDLER = path.join('sdk', 'handler.ts');
/** What CommonJS modules among the dependencies expect. */
const BANNER = [
  "import { createRequire as loramuxRequire } from 'node:module';",
  'const require = loramuxRequire(import.meta.url);',
  'const [__filename, __dirname] = [import.meta.filename, import.meta.dirname];',
].join(' ');
const OPTIONS = { platform: 'node', format: 'esm', target: 'node20', sourcesContent: false, logLevel: 'silent' };

/**
 * Each module by itself.
 * @param {string} root folder of the package
 * @param {readonly (readonly [string, Buffer])[]} sources TypeScript: path below the root, contents
 * @param {string} folder where the copy will be
 * @param {(name: string) => boolean} keepsPlace whether a module's `import.meta.url` is that of its source
 * @returns {Promise<[string, string][]>} files: path below the folder, contents
 */
export async function translate(root, sources, folder, keepsPlace) {
  const { stop, ...esbuild } = await import('esbuild');
  try {
    const modules = await Promise.all(
      sources.map(async ([name, text]) => {
        const made = name.replace(/\.ts$/, '.js');
        const source = path.join(root, name);
        const { code, map } = await esbuild.transform(text, {
          ...OPTIONS,
          loader: 'ts',
          sourcemap: 'external',
          sourcefile: path.relative(path.dirname(path.join(folder, name)), source).replaceAll(path.sep, '/'),
          define: keepsPlace(name) ? place(source) : {},
        });
        return [
          [made, `${code}//# sourceMappingURL=${path.basename(made)}.map\n`],
          [`${made}.map`, map],
        ];
      }),
    );
    return modules.flat();
  } finally {
    // Else its process stays beside the server for as long as that runs.
    await stop();
  }
}

/**
 * The server with its dependencies in few files: to find and to read a thousand of them took longer than all else at a start.
 * Threads and the modules that are loaded on demand share these files; the maps tell of this package's sources alone.
 * Parameters and result are those of {@link translate}.
 * @param {boolean} dependencies false: without them, as their copy could become stale
 */
export async function bundle(root, sources, folder, dependencies) {
  const { stop, ...esbuild } = await import('esbuild');
  const texts = new Map(sources.map(([name, text]) => [path.join(root, name), text]));
  const own = async ({ path: source }) => {
    const text = texts.get(source);
    // No map: else the first error that is logged would wait until those of all dependencies are read.
    if (text === undefined) return { contents: `${readFileSync(source, 'utf8')}\n${NO_MAP}`, loader: 'js' };
    if (!text.includes('import.meta.url')) return { contents: text, loader: 'ts' };
    const made = path.join(folder, path.relative(root, source)).replace(/\.ts$/, '.js');
    const { code } = await esbuild.transform(text, {
      ...OPTIONS,
      loader: 'ts',
      sourcemap: 'inline',
      sourcefile: path.basename(source),
      // A module finds those beside it, which it starts as threads.
      define: place(made),
    });
    return { contents: code, loader: 'js' };
  };
  try {
    const { outputFiles } = await esbuild.build({
      ...OPTIONS,
      entryPoints: entries(sources).map((name) => path.join(root, name)),
      outbase: root,
      outdir: folder,
      chunkNames: 'chunks/[name]-[hash]',
      bundle: true,
      splitting: true,
      ...(dependencies ? { external: EXTERNAL } : { packages: 'external' }),
      banner: { js: BANNER },
      sourcemap: 'linked',
      write: false,
      plugins: [{ name: 'own', setup: (build) => build.onLoad({ filter: /\.[cm]?[jt]s$/ }, own) }],
    });
    return outputFiles.map(({ path: made, contents }) => [path.relative(folder, made), contents]);
  } finally {
    await stop();
  }
}

/** A map of a first column alone: esbuild makes one itself for a file whose map is empty. */
const NO_MAP = `//# sourceMappingURL=data:application/json,${encodeURIComponent('{"version":3,"sources":[""],"mappings":"AAAA"}')}\n`;

/** What is loaded by its address: the start, each thread's module, and what handlers import. */
function entries(sources) {
  const found = new Set([path.join('server', 'main.ts')]);
  for (const [name, contents] of sources) {
    const text = contents.toString();
    if (name === HANDLER || /startThread\(import\.meta\.url/.test(text)) found.add(name);
    for (const [, beside] of text.matchAll(/moduleBeside\(import\.meta\.url, '([\w-]+)'\)/g))
      found.add(path.join(path.dirname(name), `${beside}.ts`));
  }
  return [...found];
}

function place(file) {
  return { 'import.meta.url': JSON.stringify(pathToFileURL(file).href) };
}
