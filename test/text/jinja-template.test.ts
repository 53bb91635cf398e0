import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { AppError } from '../../server/errors.js';
import type { ChatMessage } from '../../server/text/chat-template.js';
import { loadTokenizer } from '../../server/text/hf-tokenizer.js';
import { loadChatTemplate } from '../../server/text/jinja-template.js';

const GOLDEN = fileURLToPath(new URL('../../../shared/golden/', import.meta.url));

interface ChatCase {
  messages: ChatMessage[];
  add_generation_prompt: boolean;
  text?: string;
  ids?: number[];
  error?: string;
}

const failsWith =
  (message: string) =>
  (error: unknown): boolean => {
    assert.ok(error instanceof AppError);
    assert.equal(error.reason, 'CHAT_TEMPLATE_FAILED');
    assert.ok(error.message.includes(message), error.message);
    return true;
  };

for (const model of ['llama', 'llama-rope3', 'qwen2', 'qwen3', 'mistral', 'gemma']) {
  it(`renders the golden chats of ${model} to the same text and ids`, async () => {
    const folder = join(GOLDEN, 'models', model);
    const [template, tokenizer] = await Promise.all([loadChatTemplate(folder), loadTokenizer(folder)]);
    const cases: ChatCase[] = JSON.parse(await readFile(join(GOLDEN, 'golden', model, 'chat_cases.json'), 'utf8'));
    assert.ok(template.available && cases.length > 0);
    for (const { messages, add_generation_prompt, text, ids, error } of cases) {
      if (error !== undefined) {
        assert.throws(() => template.render(messages, add_generation_prompt), failsWith(error));
        continue;
      }
      const rendered = template.render(messages, add_generation_prompt);
      assert.equal(rendered, text);
      assert.deepEqual(tokenizer.encode(rendered, false), ids);
    }
  });
}

it('tells that a model has no chat template', async () => {
  const template = await loadChatTemplate(join(GOLDEN, 'models', 'gpt2'));
  assert.equal(template.available, false);
  assert.throws(() => template.render([{ role: 'user', content: 'x' }], true), failsWith('no chat template'));
});

describe('where the template stands', () => {
  let folder = '';
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'loramux-template-'));
  });
  after(() => rm(folder, { recursive: true }));
  const config = (value: object): Promise<void> =>
    writeFile(join(folder, 'tokenizer_config.json'), JSON.stringify(value));

  it('takes "default" of a list of named ones, and special tokens written as objects', async () => {
    await config({
      bos_token: { content: '<s>', lstrip: false },
      chat_template: [
        { name: 'tool_use', template: 'tools' },
        { name: 'default', template: '{{ bos_token }}{{ messages[0].content }}' },
      ],
    });
    assert.equal((await loadChatTemplate(folder)).render([{ role: 'user', content: 'hi' }], true), '<s>hi');
  });

  it('refuses a list without a default', async () => {
    await config({
      chat_template: [
        { name: 'a', template: '' },
        { name: 'b', template: '' },
      ],
    });
    await assert.rejects(loadChatTemplate(folder), (error) => (error as AppError).reason === 'MODEL_INVALID');
  });

  it('prefers chat_template.jinja, and tells when it cannot be parsed', async () => {
    await config({ chat_template: 'from config' });
    await writeFile(join(folder, 'chat_template.jinja'), 'from file');
    assert.equal((await loadChatTemplate(folder)).render([], false), 'from file');
    await writeFile(join(folder, 'chat_template.jinja'), '{% for x in %}');
    const template = await loadChatTemplate(folder);
    assert.equal(template.available, false);
    assert.throws(() => template.render([], false), failsWith('chat_template.jinja'));
  });
});
