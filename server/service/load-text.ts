/** The tokenizer and chat template of a model. */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileState } from '../adapters/file-state.js';
import { AppError } from '../errors.js';
import { type ModelFolder, openModelFolder } from '../model/model-folder.js';
import { loadTokenizer, makeTokenizer } from '../text/hf-tokenizer.js';
import { loadChatTemplate, MORE_TEMPLATES, makeChatTemplate } from '../text/jinja-template.js';
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

/**
 * The same for a model that is not open here, but elsewhere in this process.
 * @param state what {@link textState} said before it was opened there
 * @throws AppError MODEL_INVALID, also where the files have changed since
 */
export async function openText(path: string, state: string): Promise<Text> {
  const folder = await openModelFolder(path);
  try {
    const text = await loadText(folder);
    if (textState(path) === state) return text;
  } finally {
    await folder.close();
  }
  throw new AppError(
    'MODEL_INVALID',
    `the tokenizer files of ${path} have changed since the model was opened; load it again`,
  );
}

/** Files, and the folder, that a model's text is made from. */
const TEXT_FILE = new RegExp(`\\.(json|gguf|jinja)$|^${MORE_TEMPLATES}$`);

/**
 * What the file system says of the files that a model's text is made from: equal ones mean that nobody has changed any.
 * Never throws: what cannot be looked at is in that state.
 */
export function textState(path: string): string {
  try {
    const isFolder = statSync(path).isDirectory();
    const names = isFolder ? readdirSync(path).filter((name) => TEXT_FILE.test(name)) : [''];
    const more = names.includes(MORE_TEMPLATES) ? readdirSync(join(path, MORE_TEMPLATES)) : [];
    names.push(...more.map((name) => join(MORE_TEMPLATES, name)));
    const states = names.sort().map((name) => `${name}:${fileState(statSync(join(path, name), { bigint: true }))}`);
    return states.join('\n');
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code);
  }
}
