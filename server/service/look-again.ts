/** How long what is elsewhere and could not be had is left alone, in milliseconds; a use after that tries it once more. */
export const LOOK_AGAIN_MS = 10_000;
