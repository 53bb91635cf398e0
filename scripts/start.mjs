// `npm start [-- FLAGS]`: installs what is missing, then serves.
import { fileURLToPath } from 'node:url';
import { ensureInstalled } from './install.mjs';
import { serve } from './serve.mjs';

ensureInstalled(fileURLToPath(new URL('../', import.meta.url)), false);
await serve(['serve', ...process.argv.slice(2)]);
