/** The tokenizer and chat template of a model. */
import type { ModelFolder } from '../model/model-folder.js';
import { loadTokenizer } from '../text/hf-tokenizer.js';
import { loadChatTemplate } from '../text/jinja-template.js';
import { FolderFiles, jsonFiles, type KeptFiles, keptFiles, type TextFiles } from '../text/text-files.js';
import type { LoadedModel } from './ports.js';

type Text = Pick<LoadedModel, 'tokenizer' | 'chatTemplate'>;

/**
 * From files of the folder, or from inside the GGUF file. Throws AppError MODEL_INVALID.
 * @returns the contents of the files, too: another thread makes the same of them ({@link openText}), whatever has become of
 *   the folder by then
 */
export async function loadText({
  dir,
  tokenizerFiles,
}: Pick<ModelFolder, 'dir' | 'tokenizerFiles'>): Promise<Text & { readonly files: KeptFiles }> {
  if (tokenizerFiles === undefined) {
    const folder = new FolderFiles(dir);
    return { ...(await textOf(folder)), files: folder.kept };
  }
  const { tokenizer, config } = tokenizerFiles();
  const files = jsonFiles({ 'tokenizer.json': tokenizer, 'tokenizer_config.json': config });
  return { ...(await openText(files)), files };
}

/** The same from what was read before. */
export function openText(files: KeptFiles): Promise<Text> {
  return textOf(keptFiles(files));
}

async function textOf(files: TextFiles): Promise<Text> {
  const [tokenizer, chatTemplate] = await Promise.all([loadTokenizer(files), loadChatTemplate(files)]);
  return { tokenizer, chatTemplate };
}
