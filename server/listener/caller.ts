/** Who calls, for the log of changes. Nothing here is proven: it tells apart those who do not pretend. */

/** Header that a caller names itself with. */
export const ACTOR_HEADER = 'x-loramux-actor';

const MAX_LENGTH = 200;

/** The caller's own name, else its address. Control characters are left out. */
export function callerOf(header: string | null | undefined, address: string | undefined): string {
  const named = (header ?? '')
    .replace(/\p{Cc}/gu, '')
    .trim()
    .slice(0, MAX_LENGTH);
  return named !== '' ? named : (address ?? 'unknown');
}
