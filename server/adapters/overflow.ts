/** Numbers that were finite in the file and are not when they are used. */
import type { Faults } from './faults.js';
import { firstNonFinite } from './tensor-dtype.js';

/** Notes where a module's scaled lora_B, or its DoRA gain, has overflowed; what is undefined is not looked at. */
export function checkOverflow(
  module: string,
  b: Float32Array | undefined,
  faults: Faults,
  gain?: Float32Array | undefined,
): void {
  for (const [what, values] of Object.entries({ 'lora_B times the scaling': b, 'DoRA gain': gain })) {
    const bad = values === undefined ? -1 : firstNonFinite(values);
    if (bad >= 0) faults.add(`${module}: ${what} is not finite at element ${bad}`);
  }
}
