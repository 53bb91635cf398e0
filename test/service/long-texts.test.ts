/** Texts that would hold up the thread of all requests are encoded in another one. */
import assert from 'node:assert/strict';
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { withTexts } from '../../server/service/adapter-text.js';
import { EncodeThread } from '../../server/service/encode-thread.js';
import { createInferenceService } from '../../server/service/inference-service.js';
import { loadText } from '../../server/service/load-text.js';
import { createModelService } from '../../server/service/model-service.js';
import { mergeParameters } from '../../server/service/parameters.js';
import { readPrompt } from '../../server/service/read-prompt.js';
import { withAddedTokens } from '../../server/text/added-tokens.js';
import { loadTokenizer } from '../../server/text/hf-tokenizer.js';
import { failsWith } from '../app-error.js';
import { text } from './inference-run.js';
import { CountedLeases, memoryModel } from './memory-model.js';

const MODELS = fileURLToPath(new URL('../../../shared/golden/models/', import.meta.url));
const NAMES = ['llama', 'llama-rope3', 'qwen2', 'qwen3', 'mistral', 'gemma', 'gpt2'];

/** What a model's thread makes its tokenizer of. */
async function filesOf(dir: string) {
  return (await loadText({ dir })).files;
}

async function threadOf(t: TestContext, model: string): Promise<EncodeThread> {
  const thread = new EncodeThread(await filesOf(MODELS + model));
  t.after(() => thread.close());
  return thread;
}

/** A service whose model has a thread for long texts. */
async function served(t: TestContext) {
  const model = { ...memoryModel(), encodeAside: (await threadOf(t, 'llama')).encode };
  const models = new Map([[model.info.name, model]]);
  const limits = { maxInputs: 8 };
  const leases = new CountedLeases();
  const service = createInferenceService({ models, modelService: createModelService(models), leases, limits });
  return { model, service };
}

const forever = { requestId: 'test', signal: new AbortController().signal };
const long = `${'Some words, 1234 of them.\n\n  And é '.repeat(8000)}the end`;
const lastWords = { truncate: 8, maxNewTokens: 2 };

for (const name of NAMES) {
  test(`a thread of ${name} gives the ids that encoding here gives`, async (t) => {
    const thread = await threadOf(t, name);
    const tokenizer = await loadTokenizer(MODELS + name);
    let state = 7;
    const random = (below: number): number => {
      state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
      return state % below;
    };
    const parts = [
      'a',
      'the',
      ' ',
      '  ',
      '\n',
      '\r\n',
      'é',
      'e\u0301',
      '🙂',
      '▁',
      '12345',
      "'ll",
      '<s>',
      '</s>',
      '.',
      '<|x|>',
    ];
    const extra = [{ id: 9999, content: '<|x|>', special: false }];
    for (let round = 0; round < 12; round++) {
      const content = Array.from({ length: 200 }, () => parts[random(parts.length)]).join('');
      const addSpecialTokens = round % 2 === 0;
      const added = round % 3 === 0 ? [extra] : [];
      const whole = added.reduce(withAddedTokens, tokenizer).encode(content, addSpecialTokens);
      for (const last of [1, 7, 60, undefined]) {
        const job = { source: content, addSpecialTokens, most: Number.POSITIVE_INFINITY, last, added, over: [] };
        const { ids, count } = await thread.encode(job);
        assert.deepEqual(ids, last === undefined ? whole : whole.slice(-last), JSON.stringify(content));
        assert.equal(count, whole.length);
      }
    }
  });
}

test('others are answered while the last tokens of a long prompt are looked for', async (t) => {
  const { model, service } = await served(t);
  const order: string[] = [];
  const ask = async (what: string, prompt: string): Promise<void> => {
    await service.predict({ inputs: [text(prompt)], parameters: lastWords }, forever);
    order.push(what);
  };
  await Promise.all([ask('long', long), ask('short', 'A word')]);
  assert.deepEqual(order, ['short', 'long']);
  const [result] = await service.predict({ inputs: [text(long)], parameters: lastWords }, forever);
  const ids = model.tokenizer.encode(long, true).slice(-8);
  const [same] = await service.predict(
    { inputs: [{ prompt: { kind: 'tokens', tokenIds: ids } }], parameters: lastWords },
    forever,
  );
  assert.deepEqual([result!.text, result!.usage], [same!.text, same!.usage]);
});

test('a chat that is long, or has many messages, is rendered there, by the template that it would have here', async (t) => {
  const { model, service } = await served(t);
  const many = Array.from({ length: 600 }, (_, i) => ({
    role: i % 2 === 0 ? 'user' : 'assistant',
    content: `say ${i}`,
  }));
  const ownText = {
    ...{ tokens: [], specialTokens: {} },
    templates: [{ name: 'default', template: '{% for one in messages %}<{{ one.content }}>{% endfor %}' }],
  };
  for (const messages of [many, [{ role: 'user', content: long }]]) {
    for (const own of [model, withTexts(model, [{ name: 'own', text: ownText }], true)]) {
      const ids = model.tokenizer.encode(own.chatTemplate.render(messages, true), false).slice(-8);
      const elsewhere = { ...own.chatTemplate, render: () => assert.fail('rendered here') };
      const prompt = { kind: 'chat', messages } as const;
      const { promptIds } = await readPrompt(prompt, mergeParameters(lastWords), 0, {
        ...own,
        chatTemplate: elsewhere,
      });
      assert.deepEqual(promptIds, ids);
    }
  }
  const faulty = [{ role: 'user', content: 'a' }, ...many];
  await assert.rejects(
    service.predict({ inputs: [{ prompt: { kind: 'chat', messages: faulty, template: 'none' } }] }, forever),
    failsWith('CHAT_TEMPLATE_FAILED'),
  );
});

test('a long text that fits no context is refused there, too', async (t) => {
  const { service } = await served(t);
  await assert.rejects(service.predict({ inputs: [text(long)] }, forever), failsWith('CONTEXT_LENGTH_EXCEEDED'));
});

test('a long text of a caller who left is given up, and the next one is read', async (t) => {
  const { service } = await served(t);
  const leaving = new AbortController();
  const call = { requestId: 'left', signal: leaving.signal };
  const inputs = [text(long)];
  const left = [0, 1].map(() => service.predict({ inputs, parameters: lastWords }, call));
  const stays = service.predict({ inputs, parameters: lastWords }, forever);
  setTimeout(() => leaving.abort(), 20);
  for (const one of left) await assert.rejects(one, failsWith('CANCELED'));
  assert.equal((await stays).length, 1);
});

test('a model that is unloaded ends the reading', async () => {
  const thread = new EncodeThread(await filesOf(`${MODELS}llama`));
  const job = { source: long, addSpecialTokens: true, most: Number.POSITIVE_INFINITY, last: 1, added: [], over: [] };
  const reading = [thread.encode(job), thread.encode(job)];
  const refused = reading.map((one) => assert.rejects(one, failsWith('SHUTTING_DOWN')));
  await thread.close();
  await Promise.all(refused);
  await assert.rejects(thread.encode(job), failsWith('SHUTTING_DOWN'));
});

test('a thread that cannot be started fails the texts that need it, and keeps none waiting', async (t) => {
  // What no thread can be given stands for a system that gives no thread.
  const thread = new EncodeThread(new Map([['tokenizer.json', (() => {}) as never]]));
  t.after(() => thread.close());
  const job = { source: long, addSpecialTokens: true, most: 9, last: 1, added: [], over: [] };
  for (const texts of [1, 2]) {
    const reading = Array.from({ length: texts }, () => thread.encode(job, AbortSignal.timeout(5000)));
    for (const { status, reason } of (await Promise.allSettled(reading)) as PromiseRejectedResult[]) {
      assert.deepEqual([status, (reason as Error).name], ['rejected', 'DataCloneError']);
    }
  }
});

for (const [what, change] of [
  ['changed', (folder: string) => writeFile(join(folder, 'tokenizer.json'), '{}')],
  ['gone', (folder: string) => rm(folder, { recursive: true })],
] as const) {
  test(`a long text is encoded, and a long chat rendered, as the model was opened, when its folder is ${what}`, async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'loramux-texts-'));
    t.after(() => rm(folder, { recursive: true, force: true }));
    await cp(`${MODELS}llama`, folder, { recursive: true });
    const more = join(folder, 'additional_chat_templates');
    await mkdir(more);
    await writeFile(join(folder, 'chat_template.jinja'), 'all: {{ messages[0].content }}');
    await writeFile(join(more, 'tools.jinja'), 'tools: {{ messages[0].content }}');
    const { tokenizer, files } = await loadText({ dir: folder });
    const thread = new EncodeThread(files);
    t.after(() => thread.close());
    await change(folder);
    const rest = { addSpecialTokens: true, most: Number.POSITIVE_INFINITY, last: undefined, added: [], over: [] };
    assert.deepEqual((await thread.encode({ source: long, ...rest })).ids, tokenizer.encode(long, true));
    for (const [template, text] of [
      [undefined, 'all: hi'],
      ['tools', 'tools: hi'],
    ] as const) {
      const source = { messages: [{ role: 'user', content: 'hi' }], template };
      assert.deepEqual((await thread.encode({ source, ...rest })).ids, tokenizer.encode(text, true));
    }
  });
}
