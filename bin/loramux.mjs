#!/usr/bin/env node
// The command `loramux`, wherever it is called from.
import { serve } from '../scripts/serve.mjs';

await serve(process.argv.slice(2));
