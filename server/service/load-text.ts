/** The tokenizer and chat template of a model. */
import { type ModelFolder, openModelFolder } from '../model/model-folder.js';
import { loadTokenizer, makeTokenizer } from '../text/hf-tokenizer.js';
import { loadChatTemplate, makeChatTemplate } from '../text/jinja-template.js';
import { namedSpecialTokens } from '../text/tokenizer-files.js';
import type { LoadedModel } from './ports.js';

type Text = Pick<LoadedModel, 'tokenizer' | 'chatTemplate'>;

/** From files of the folder, or from inside the GGUF file. Throws AppError MODEL_INVALID. */
export async function loadText({ dir, tokenizerFiles }: Pick<ModelFolder, 'dir' | 'tokenizerFiles'>): Promise<Text> {
  if (tokenizerFiles === undefined) {
    const [tokenizer, chatTemplate] = await Promise.all([loadTokenizer(dir), loadChatTemplate(dir)]);
    return { tokenizer, chatTemplate };
  }
  const { tokenizer, config } = tokenizerFiles();
  return {
    tokenizer: makeTokenizer(tokenizer, config),
    chatTemplate: makeChatTemplate(config.chat_template, namedSpecialTokens(config)),
  };
}

/** The same for a model that is not open. Throws AppError MODEL_INVALID. */
export async function openText(path: string): Promise<Text> {
  const folder = await openModelFolder(path);
  try {
    return await loadText(folder);
  } finally {
    await folder.close();
  }
}
