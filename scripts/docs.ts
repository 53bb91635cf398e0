/** `npm run docs` writes the generated pages; with --check it only compares and ends with 1 on a difference. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { renderDocs } from './render-docs.js';

const root = new URL('../', import.meta.url);
const check = process.argv.includes('--check');
let stale = 0;
for (const [page, text] of renderDocs()) {
  const file = new URL(page, root);
  if (!check) {
    mkdirSync(new URL('./', file), { recursive: true });
    writeFileSync(file, text);
    console.log(`wrote ${page}`);
  } else if (readText(file) !== text) {
    console.error(`${page} is not what the code says; run: npm run docs`);
    stale++;
  }
}
process.exitCode = stale > 0 ? 1 : 0;

function readText(file: URL): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}
