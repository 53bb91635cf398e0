import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../', import.meta.url));
const { missingFrom } = (await import(`${root}scripts/install.mjs`)) as {
  missingFrom(root: string, withDev: boolean): string | undefined;
};

interface LockEntry {
  readonly version?: string;
  readonly optional?: boolean;
  readonly dev?: boolean;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

test('what must be installed is told from the lock and what lies in node_modules', (t) => {
  const place = mkdtempSync(path.join(tmpdir(), 'loramux-install-'));
  t.after(() => rmSync(place, { recursive: true, force: true }));
  const lock: Record<string, LockEntry> = {
    '': {},
    'node_modules/a': { version: '1.0.0' },
    'node_modules/other-platform': { version: '1.0.0', optional: true },
  };
  const write = (file: string, packages: object) => {
    mkdirSync(path.dirname(path.join(place, file)), { recursive: true });
    writeFileSync(path.join(place, file), JSON.stringify({ packages }));
  };
  write('package-lock.json', lock);
  assert.equal(missingFrom(place, true), 'no node_modules');
  mkdirSync(path.join(place, 'node_modules'));
  assert.equal(missingFrom(place, true), 'node_modules is incomplete');
  write('node_modules/.package-lock.json', {});
  assert.equal(missingFrom(place, true), 'node_modules/a is missing');
  write('node_modules/.package-lock.json', { 'node_modules/a': { version: '0.9.0' } });
  assert.equal(missingFrom(place, true), 'node_modules/a is 0.9.0, not 1.0.0');
  write('node_modules/.package-lock.json', { 'node_modules/a': { version: '1.0.0' } });
  assert.equal(missingFrom(place, true), 'node_modules/a is missing');
  write('node_modules/a/package.json', {});
  assert.equal(missingFrom(place, true), undefined);

  write('package-lock.json', { ...lock, 'node_modules/linter': { version: '1.0.0', dev: true } });
  assert.equal(missingFrom(place, true), 'node_modules/linter is missing');
  assert.equal(missingFrom(place, false), undefined, 'serving does without');
});

test('the lock names every build of every package, so that npm ci works on any platform', () => {
  const { packages } = JSON.parse(readFileSync(path.join(root, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, LockEntry>;
  };
  for (const [place, entry] of Object.entries(packages)) {
    for (const name of Object.keys(entry.optionalDependencies ?? {})) {
      const found = packages[`node_modules/${name}`] ?? packages[`${place}/node_modules/${name}`];
      assert.ok(found, `${name}, wanted by ${place}, is in package-lock.json`);
    }
  }
});
