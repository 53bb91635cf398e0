import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
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

  it('renders with the one of the name that is asked for', async () => {
    const template = await loadChatTemplate(folder);
    assert.deepEqual(template.names, ['tool_use', 'default']);
    assert.equal(template.render([{ role: 'user', content: 'hi' }], true, 'tool_use'), 'tools');
    assert.throws(
      () => template.render([], true, 'rag'),
      failsWith('no chat template "rag"; it has "tool_use", "default"'),
    );
  });

  it('knows a single one as the default, also by that name', async () => {
    await config({ chat_template: 'the only one' });
    const template = await loadChatTemplate(folder);
    assert.deepEqual(template.names, ['default']);
    assert.equal(template.render([], true, 'default'), 'the only one');
    assert.throws(() => template.render([], true, 'rag'), failsWith('the model has no chat template "rag"'));
  });

  it('gives a message of the developer to a template that knows no such role as one of the system', async () => {
    const roles = '{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}';
    await config({
      chat_template: [
        { name: 'default', template: roles },
        { name: 'strict', template: `{% if messages[0].role != "system" %}{{ raise_exception("who?") }}{% endif %}` },
        { name: 'knows', template: `{% if messages[0].role == 'developer' %}(!){% endif %}${roles}` },
      ],
    });
    const template = await loadChatTemplate(folder);
    const chat = [
      { role: 'developer', content: 'a' },
      { role: 'user', content: 'b' },
    ];
    assert.equal(template.render(chat, true), '[system]a[user]b');
    assert.equal(template.render(chat, true, 'strict'), '');
    assert.equal(template.render(chat, true, 'knows'), '(!)[developer]a[user]b');
  });

  it('asks for a name where several have no default, and takes the only one', async () => {
    await config({
      chat_template: [
        { name: 'a', template: 'A' },
        { name: 'b', template: '{{ raise_exception("not me") }}' },
      ],
    });
    const template = await loadChatTemplate(folder);
    assert.equal(template.available, true);
    assert.throws(() => template.render([], true), failsWith('name one of "a", "b"'));
    assert.equal(template.render([], true, 'a'), 'A');
    assert.throws(() => template.render([], true, 'b'), failsWith('not me'));
    await config({ chat_template: [{ name: 'a', template: 'A' }] });
    assert.equal((await loadChatTemplate(folder)).render([], true), 'A');
  });

  it('refuses a list of anything else', async () => {
    for (const chat_template of [
      [{ name: 'a' }],
      7,
      [
        { name: 'a', template: '' },
        { name: 'a', template: '' },
      ],
      ['x'],
    ]) {
      await config({ chat_template });
      await assert.rejects(loadChatTemplate(folder), (error) => (error as AppError).reason === 'MODEL_INVALID');
    }
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

  it('finds further ones in additional_chat_templates', async () => {
    await mkdir(join(folder, 'additional_chat_templates'));
    await writeFile(join(folder, 'additional_chat_templates', 'rag.jinja'), 'with documents');
    await writeFile(join(folder, 'chat_template.jinja'), 'from file');
    const template = await loadChatTemplate(folder);
    assert.deepEqual(template.names, ['default', 'rag']);
    assert.equal(template.render([], false), 'from file');
    assert.equal(template.render([], false, 'rag'), 'with documents');
  });

  it('ends a template of the model that does not end, and goes on with the next', async () => {
    await rm(join(folder, 'chat_template.jinja'), { force: true });
    await rm(join(folder, 'additional_chat_templates'), { recursive: true, force: true });
    const loop = '{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}';
    await config({
      chat_template: [
        { name: 'default', template: 'short' },
        { name: 'unending', template: loop },
      ],
    });
    const template = await loadChatTemplate(folder);
    assert.throws(() => template.render([], false, 'unending'), failsWith("the model's chat template takes more than"));
    assert.equal(template.render([], false), 'short');
  });
});
