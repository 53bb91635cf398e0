/** What is done with a text, in whichever thread. */
import { withAddedTokens } from '../text/added-tokens.js';
import { encodeBounded } from '../text/bounded-encode.js';
import { overTemplates } from '../text/guarded-template.js';
import type { EncodedText, EncodeJob } from './encode-messages.js';
import type { LoadedModel } from './ports.js';

/**
 * Encodes the text, or as much of it as is of use.
 * @throws AppError CHAT_TEMPLATE_FAILED
 */
export function encodeJob(model: Pick<LoadedModel, 'tokenizer' | 'chatTemplate'>, job: EncodeJob): EncodedText {
  const { source, addSpecialTokens, most, last, added, over } = job;
  const fitted = added.reduce(withAddedTokens, model.tokenizer);
  const templates = () =>
    over.reduce(
      (inner, { templates: own, specialTokens }) => overTemplates(inner, own, specialTokens),
      model.chatTemplate,
    );
  const text = typeof source === 'string' ? source : templates().render(source.messages, true, source.template);
  const { ids, whole } = encodeBounded(fitted, text, addSpecialTokens, most);
  return { ids: last === undefined ? ids : ids.slice(-last), count: ids.length, whole };
}
