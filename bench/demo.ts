/** The model that this repository ships, for commands that are given no other. */
import { fileURLToPath } from 'node:url';

export const DEMO_MODEL = fileURLToPath(new URL('../models/demo', import.meta.url));
export const DEMO_ADAPTERS = fileURLToPath(new URL('../models/demo/adapters', import.meta.url));
