// `npm start [-- FLAGS]`: installs what is missing, then serves.
import { fileURLToPath } from 'node:url';
import { ensureInstalled } from './install.mjs';
import { runNode } from './run-node.mjs';

const root = fileURLToPath(new URL('../', import.meta.url));
ensureInstalled(root);
runNode([`${root}server/main.ts`, 'serve', ...process.argv.slice(2)]);
