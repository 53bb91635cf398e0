/** Penalties on tokens that the row has seen already, and biases of single tokens. */

/** Strengths of the penalties; 1, 0, 0 = off. */
export interface Penalties {
  readonly repetitionPenalty: number;
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
}

/** The token ids a row has seen: what the penalties look at. */
export class TokenHistory {
  /** Distinct ids of prompt and generation. */
  readonly seen: Set<number>;
  /** Generated id -> how often. */
  readonly generated = new Map<number, number>();

  constructor(promptIds: readonly number[]) {
    this.seen = new Set(promptIds);
  }

  /** Records a generated token. */
  add(id: number): void {
    this.seen.add(id);
    this.generated.set(id, (this.generated.get(id) ?? 0) + 1);
  }
}

/** True when any penalty would change a logit. */
export function hasPenalties(options: Penalties): boolean {
  return options.repetitionPenalty !== 1 || options.presencePenalty !== 0 || options.frequencyPenalty !== 0;
}

/**
 * Adds to the logits of single tokens, in place, before anything else: OpenAI's logit_bias.
 * @param logits // [vocab]
 */
export function applyBias(logits: Float32Array, bias: ReadonlyMap<number, number>): void {
  for (const [id, value] of bias) if (id < logits.length) logits[id] = finite(logits[id]! + value);
}

/**
 * Applies the penalties in place, as Hugging Face's RepetitionPenaltyLogitsProcessor (prompt and generated ids:
 * positive logits are divided, negative ones multiplied) and then as OpenAI's frequency and presence penalties
 * (generated ids only: logit -= frequency * count + presence).
 * @param logits // [vocab]
 */
export function applyPenalties(logits: Float32Array, options: Penalties, history: TokenHistory): void {
  const { repetitionPenalty, presencePenalty, frequencyPenalty } = options;
  if (repetitionPenalty !== 1) {
    for (const id of history.seen) {
      if (id >= logits.length) continue;
      const logit = logits[id]!;
      logits[id] = finite(logit < 0 ? logit * repetitionPenalty : logit / repetitionPenalty);
    }
  }
  if (presencePenalty === 0 && frequencyPenalty === 0) return;
  for (const [id, count] of history.generated) {
    if (id < logits.length) logits[id] = finite(logits[id]! - (frequencyPenalty * count + presencePenalty));
  }
}

const LARGEST = 3.4e38;

/** Keeps extreme penalties from making a logit infinite, which would leave the row without a maximum. */
function finite(logit: number): number {
  return Math.max(-LARGEST, Math.min(LARGEST, logit));
}
