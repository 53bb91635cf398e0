/**
 * Sorts texts into classes with a language model: a label's score is the probability that the answer begins with the
 * label's first token. `{"inputs": ["..."], "labels": ["sun", "rain"], "adapters": "polite"}` ->
 * `[{"label": "sun", "scores": {"sun": 0.8, "rain": 0.2}}]`
 */
import { defineHandler, HandlerError } from '@loramux/sdk/handler';

/** Alternatives that the model is asked for; a label that is not among them scores 0. */
const ALTERNATIVES = 20;

interface Body {
  readonly inputs: string | readonly string[];
  readonly labels: readonly string[];
  readonly adapters?: string;
}

function readBody(value: unknown): Body {
  const body = value as Partial<Body> | undefined;
  const inputs = typeof body?.inputs === 'string' ? [body.inputs] : body?.inputs;
  if (!Array.isArray(inputs) || !inputs.every((text) => typeof text === 'string')) {
    throw new HandlerError('inputs must be a text or a list of texts', 400);
  }
  if (!Array.isArray(body?.labels) || body.labels.length < 2) {
    throw new HandlerError('labels must be a list of at least two texts', 400);
  }
  // A list would be one sum of adapters for every text, and not an adapter for each.
  if (body.adapters !== undefined && typeof body.adapters !== 'string') {
    throw new HandlerError('adapters must be the name of one adapter', 400);
  }
  return { inputs, labels: body.labels, ...(body.adapters === undefined ? {} : { adapters: body.adapters }) };
}

export default defineHandler({
  async handle(input, context) {
    const { inputs, labels, adapters } = readBody(input.getAsJson());
    const results = await context.generate({
      inputs,
      adapter: input.getAdapter() ?? adapters,
      parameters: { maxNewTokens: 1, logprobs: ALTERNATIVES },
    });
    return results.map(({ tokens }) => {
      const best = tokens[0]?.top ?? [];
      const weights = labels.map((label) => {
        const found = best.find(
          ({ text }) => text.trim() !== '' && label.toLowerCase().startsWith(text.trim().toLowerCase()),
        );
        return found === undefined ? 0 : Math.exp(found.logprob);
      });
      const total = weights.reduce((sum, weight) => sum + weight, 0);
      const scores = weights.map((weight) => (total === 0 ? 0 : weight / total));
      const at = scores.indexOf(Math.max(...scores));
      return {
        label: total === 0 ? null : labels[at],
        scores: Object.fromEntries(labels.map((label, i) => [label, scores[i]])),
      };
    });
  },
});
