/** What clients of OpenAI's API ask for that is not offered: refused by its name, as another answer would come in silence. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { postJson, serve } from './http.js';
import { memoryServices } from './memory-services.js';

const chat = { messages: [{ role: 'user', content: 'x' }], model: 'one', max_tokens: 2 };
const completion = { prompt: 'x', model: 'one', max_tokens: 2 };
const tools = [{ type: 'function', function: { name: 'f', parameters: { type: 'object', properties: {} } } }];
const called = { role: 'assistant', content: null, tool_calls: [{ id: '1', type: 'function', function: {} }] };

test('tools, schemas and the like are refused by the name of the field', async (t) => {
  const url = await serve(t, memoryServices());
  const refused: [body: object, param: string][] = [
    [{ ...chat, tools }, 'tools'],
    [{ ...chat, tools, tool_choice: 'auto' }, 'tools'],
    [{ ...chat, tools, tool_choice: 'required' }, 'tools'],
    [{ ...chat, tool_choice: 'required' }, 'tool_choice'],
    [{ ...chat, tool_choice: { type: 'function', function: { name: 'f' } } }, 'tool_choice'],
    [{ ...chat, functions: [{ name: 'f' }] }, 'functions'],
    [{ ...chat, function_call: { name: 'f' } }, 'function_call'],
    [{ ...chat, response_format: { type: 'json_object' } }, 'response_format'],
    [{ ...chat, response_format: { type: 'json_schema', json_schema: { name: 's', schema: {} } } }, 'response_format'],
    [{ ...completion, response_format: { type: 'json_object' } }, 'response_format'],
    [{ ...chat, structured_outputs: { choice: ['a'] } }, 'structured_outputs'],
    [{ ...completion, guided_regex: 'a+' }, 'guided_regex'],
    [{ ...completion, suffix: 'end' }, 'suffix'],
    [{ ...chat, modalities: ['text', 'audio'] }, 'modalities'],
    [{ ...chat, web_search_options: {} }, 'web_search_options'],
    [{ ...chat, use_beam_search: true }, 'use_beam_search'],
    [{ ...chat, top_logprobs: 2 }, 'top_logprobs'],
    [{ ...chat, logprobs: false, top_logprobs: 2 }, 'top_logprobs'],
    [{ ...chat, messages: [...chat.messages, called] }, 'messages[1].tool_calls'],
  ];
  for (const [body, param] of refused) {
    for (const stream of [false, true]) {
      const path = 'prompt' in body ? '/v1/completions' : '/v1/chat/completions';
      const answer = await postJson(url + path, { ...body, stream });
      const { error } = (await answer.json()) as { error: Record<string, string> };
      assert.deepEqual([answer.status, error.param, error.code], [400, param, 'INVALID_REQUEST'], JSON.stringify(body));
      assert.ok(error.message!.startsWith(`${param} `), error.message);
    }
  }
});

test('fields that ask for what is done anyway stop no answer', async (t) => {
  const url = await serve(t, memoryServices());
  for (const more of [
    { tools: [], functions: [] },
    { tools, tool_choice: 'none' },
    { tool_choice: 'auto', function_call: 'none', parallel_tool_calls: true },
    { tools: null, tool_choice: null, response_format: null, structured_outputs: null, suffix: null, modalities: null },
    { response_format: { type: 'text' }, modalities: ['text'], suffix: '', use_beam_search: false },
    { logprobs: true, top_logprobs: 2 },
    { top_logprobs: 0 },
  ]) {
    const answer = await postJson(`${url}/v1/chat/completions`, { ...chat, ...more });
    assert.equal(answer.status, 200, JSON.stringify(more));
  }
});

test('what is null asks for nothing, and is not told as unused', async (t) => {
  const url = await serve(t, memoryServices());
  for (const body of [chat, completion]) {
    const more = { audio: null, prediction: null, store: true, metadata: { a: 'b' }, service_tier: null };
    const answer = await postJson(`${url}/v1/completions`, { ...body, ...more });
    assert.deepEqual([answer.status, answer.headers.get('x-loramux-ignored')], [200, 'store, metadata']);
    const base = await postJson(`${url}/v1/completions`, { ...body, adapter: null });
    assert.equal(base.status, 400, 'this asks for the base model, where nothing reads it');
  }
});
