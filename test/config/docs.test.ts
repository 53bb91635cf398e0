import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { renderDocs } from '../../scripts/render-docs.js';

for (const [page, text] of renderDocs()) {
  test(`${page} says what the code says`, () => {
    assert.equal(readFileSync(new URL(`../../${page}`, import.meta.url), 'utf8'), text);
  });
}
