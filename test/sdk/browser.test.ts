import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { describe, it } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';

const IMPORT = /(?:^|[\s;}])(?:import|export)\s*(?:[\w*{}\s,$]+\sfrom\s*)?["']([^"']+)["']/g;

/** Every module that is reachable from an entry, and the imports that are built into Node. */
function reach(entry: string): { modules: Set<string>; builtin: Set<string> } {
  const modules = new Set<string>();
  const builtin = new Set<string>();
  const visit = (url: string): void => {
    if (modules.has(url)) return;
    modules.add(url);
    const path = fileURLToPath(url);
    for (const [statement, specifier] of readFileSync(path, 'utf8').matchAll(IMPORT)) {
      if (/(?:import|export)\s+type\s/.test(statement)) continue;
      if (specifier!.startsWith('.')) {
        const file = path.endsWith('.ts') ? specifier!.replace(/\.js$/, '.ts') : specifier!;
        visit(new URL(file, url).href);
      } else if (createRequire(url).resolve.paths(specifier!) === null) builtin.add(`${specifier} in ${path}`);
      else visit(import.meta.resolve(specifier!));
    }
  };
  visit(entry);
  return { modules, builtin };
}

describe('entries of the SDK', () => {
  const entry = (name: string): string => new URL(`../../sdk/${name}`, import.meta.url).href;

  it('reach nothing of Node from the default one', () => {
    const { modules, builtin } = reach(entry('index.ts'));
    assert.deepEqual([...builtin], []);
    assert.ok(modules.size > 50, 'the imports of the dependencies were followed');
  });

  it('reach Node from the one for Node, so that this test would notice', () => {
    assert.ok([...reach(entry('node.ts')).builtin].some((one) => one.includes('http2')));
  });

  it('reach neither the server nor the validation rules', () => {
    for (const name of ['index.ts', 'node.ts']) {
      const wrong = [...reach(entry(name)).modules].filter((url) => /\/server\/|protovalidate|\/cel\//.test(url));
      assert.deepEqual(wrong, []);
    }
  });

  it('touch no global of Node', () => {
    const ours = [...reach(entry('index.ts')).modules].filter((url) =>
      url.startsWith(pathToFileURL(fileURLToPath(new URL('../../sdk/', import.meta.url))).href),
    );
    assert.ok(ours.length > 8);
    for (const url of ours) {
      const source = readFileSync(fileURLToPath(url), 'utf8');
      assert.doesNotMatch(source, /\b(process|Buffer|__dirname|require)\b[.([]/, url);
    }
  });
});
