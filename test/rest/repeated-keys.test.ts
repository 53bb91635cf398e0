import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseStrictJson } from '../../server/adapters/strict-json.js';
import { findRepeatedKey } from '../../server/rest/repeated-keys.js';
import { serve } from './http.js';
import { memoryServices } from './memory-services.js';

const cases: [text: string, key: string | undefined, at?: number][] = [
  ['{"a": 1, "b": 2}', undefined],
  ['{"a": 1, "a": 1}', 'a', 9],
  ['{"a": {"a": 1}, "b": [{"a": 1}, {"a": "a"}]}', undefined],
  ['[{"a": {}, "b": {"c": [1], "c": 2}}]', 'c', 27],
  ['{"a": "\\"a\\": ", "b\\\\": 1, "b": "}"}', undefined],
  ['{"\\u0061" :1,\n"a"\n:2}', 'a', 14],
  ['{"__proto__": 1, "__proto__": 2}', '__proto__', 17],
  ['"{\\"a\\":1,\\"a\\":2}"', undefined],
];

for (const [text, key, at] of cases) {
  test(`${text.replaceAll('\n', ' ')} has ${key === undefined ? 'no key' : JSON.stringify(key)} twice`, () => {
    assert.deepEqual(findRepeatedKey(text), key === undefined ? undefined : { key, at });
  });
}

test('finds a repeated key in the texts in which a strict reader does, and in no others', () => {
  const key = fc.constantFrom('a', 'b', '\\u0061', 'a\\\\', '\\"', '{', '}', ':');
  const { value } = fc.letrec<{ value: string }>((tie) => ({
    value: fc.oneof(
      { maxDepth: 3 },
      fc.constantFrom('1', '"a"', '"\\\\"', '"{\\"a\\":"', 'null'),
      fc.array(tie('value'), { maxLength: 3 }).map((items) => `[${items.join(',')}]`),
      fc
        .array(fc.tuple(key, tie('value')), { maxLength: 3 })
        .map((members) => `{${members.map(([name, member]) => `"${name}" :${member}`).join(', ')}}`),
    ),
  }));
  let repeated = 0;
  fc.assert(
    fc.property(value, (text) => {
      let isStrict = true;
      try {
        parseStrictJson(text);
      } catch (error) {
        assert.match((error as Error).message, /stands twice/);
        isStrict = false;
        repeated++;
      }
      assert.equal(findRepeatedKey(text) === undefined, isStrict, text);
    }),
    { numRuns: 1000 },
  );
  assert.ok(repeated > 50, `${repeated}`);
});

test('a key that stands twice is refused, wherever the body is JSON: nobody else is asked in silence', async (t) => {
  const services = memoryServices();
  const url = await serve(t, services);
  const send = async (body: string | FormData, path = '/invocations', contentType?: string): Promise<string> => {
    const headers: Record<string, string> = contentType === undefined ? {} : { 'content-type': contentType };
    const answer = await fetch(url + path, { method: 'POST', body, headers });
    return `${answer.status} ${((await answer.json()) as { message?: string }).message}`;
  };
  const twice = '{"inputs": "a", "adapters": "one",\n "adapters": ""}';
  const refused = /^400 the body has the key "adapters" twice in one object, the second time at line 2 column 2;/;
  for (const type of ['application/json', 'text/plain', 'application/x-www-form-urlencoded']) {
    assert.match(await send(twice, '/invocations', type), refused, type);
  }
  assert.match(await send('{"x": 1, "x": 2, "adapters": "one"}', '/invocations', 'text/plain'), /"x" twice/);
  const form = new FormData();
  form.append('data', twice);
  assert.match(await send(form), refused);
  const parameters = new FormData();
  parameters.append('inputs', 'a');
  parameters.append('parameters', '{"adapter": 1, "adapter": 2}');
  assert.match(await send(parameters), /^400 the field parameters of the form has the key "adapter" twice/);
  const register = '{"name": "b", "src": "/x", "name": "c"}';
  assert.match(
    await send(register, '/models/base/adapters', 'application/json'),
    /^400 the body has the key "name" twice/,
  );
  assert.equal(services.requests.length, 0);
});
