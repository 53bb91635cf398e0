/** Bounds of a model's batch and queue, wherever they are set: by a flag, in its folder, or when it is registered. */

/** Most rows of a step. */
export const MAX_BATCH = 1024;
/** Most rows that may wait or run. */
export const MAX_QUEUE = 1_000_000;
