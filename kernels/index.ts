/**
 * Loops over whole adapters and models, in 128-bit vectors: in JavaScript they take three to eight times as long. This is
 * AssemblyScript; `npm run gen` makes gen/kernels.ts of it, and server/kernels calls it. Addresses are bytes of the memory.
 */
export { quantise } from './columns';
export { turn, widen } from './matrices';
