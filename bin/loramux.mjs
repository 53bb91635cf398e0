#!/usr/bin/env node
// The command `loramux`: runs the server's entry point with TypeScript support, wherever it is called from.
import { fileURLToPath } from 'node:url';
import { runNode } from '../scripts/run-node.mjs';

runNode([fileURLToPath(new URL('../server/main.ts', import.meta.url)), ...process.argv.slice(2)]);
