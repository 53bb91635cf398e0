import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { coresAtHand } from '../server/cgroup.js';

test('the cores at hand are those whose time a cgroup allows, whatever the machine has', (t) => {
  const root = mkdtempSync(join(tmpdir(), 'loramux-cgroup-'));
  t.after(() => rmSync(root, { recursive: true }));
  assert.equal(coresAtHand(root), availableParallelism());
  mkdirSync(join(root, 'proc/self'), { recursive: true });
  mkdirSync(join(root, 'sys/fs/cgroup'), { recursive: true });
  writeFileSync(join(root, 'proc/self/cgroup'), '0::/\n');
  const allowed = (quota: string): number => {
    writeFileSync(join(root, 'sys/fs/cgroup/cpu.max'), `${quota} 100000\n`);
    return coresAtHand(root);
  };
  assert.equal(allowed('max'), availableParallelism());
  assert.equal(allowed('6400000'), Math.min(64, availableParallelism()));
  assert.equal(allowed('100000'), 1);
  assert.equal(allowed('150000'), 1);
  assert.equal(allowed('50000'), 1);
});
