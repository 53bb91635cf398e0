import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { parseInvocation } from '../../server/config/parse.js';

test('a handler is a module inside the model folder, alone or beside weights', (t) => {
  const dir = mkdtempSync(path.join(tmpdir(), 'loramux-config-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const folder = path.join(dir, 'm');
  mkdirSync(folder);
  writeFileSync(path.join(dir, 'outside.js'), '');
  writeFileSync(path.join(folder, 'handler.ts'), '');
  symlinkSync(path.join(dir, 'outside.js'), path.join(folder, 'link.js'));
  const source = (properties: string) => {
    writeFileSync(path.join(folder, 'serving.properties'), properties);
    const surroundings = { argv: ['serve', '--model', folder], env: {}, cwd: dir, packageRoot: dir, version: '1' };
    const invocation = parseInvocation(surroundings);
    return invocation.kind === 'serve' ? invocation.config.models[0]! : assert.fail('not serving');
  };
  const alone = source('option.entryPoint=handler.ts\noption.predict_timeout=7\noption.own=x\n');
  assert.deepEqual(alone.handler, {
    entryPoint: path.join(folder, 'handler.ts'),
    properties: { 'option.entryPoint': 'handler.ts', 'option.predict_timeout': '7', 'option.own': 'x' },
    alone: true,
    callMs: 7000,
  });
  for (const [name, problem] of [
    ['nope.ts', /names no file/],
    ['../outside.js', /must lie inside the folder/],
    ['link.js', /must lie inside the folder/],
    ['model.py', /must be a \.ts, \.js or \.mjs file/],
  ] as const) {
    assert.throws(() => source(`option.entryPoint=${name}\n`), problem);
  }
  assert.throws(() => source('option.entryPoint=handler.ts\noption.predict_timeout=0\n'), /between 1 and 86400/);
  assert.throws(() => source('option.enable_lora=true\n'), /there is no model/);
  writeFileSync(path.join(folder, 'config.json'), '{}');
  assert.equal(source('option.entryPoint=handler.ts\n').handler!.alone, false);
  const builtIn = source('option.entryPoint=djl_python.huggingface\n');
  assert.equal(builtIn.handler, undefined);
  assert.match(builtIn.warnings[0]!, /djl_python\.huggingface is ignored/);
});
