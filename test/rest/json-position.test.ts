import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { locateJsonFault } from '../../server/rest/json-position.js';

const cases: [text: string, line: number, column: number, problem: RegExp][] = [
  ['', 1, 1, /empty/],
  ['{"inputs": [', 1, 13, /ends too early/],
  ['{"inputs": }', 1, 12, /expected a value, found "}"/],
  ['{"a": 1,}', 1, 9, /expected a name in double quotes, found "}"/],
  ['[1,]', 1, 4, /expected a value/],
  ["{'a': 1}", 1, 2, /expected a name in double quotes, found "'"/],
  ['{"a" 1}', 1, 6, /expected ":"/],
  ['{"a": 1 "b": 2}', 1, 9, /expected "," or "}"/],
  ['{\n  "a": tru\n}', 2, 8, /expected a value/],
  ['[1] 2', 1, 5, /after the end/],
  ['[1}', 1, 3, /unexpected "}"/],
  ['"abc', 1, 1, /does not end/],
  ['"a\\x"', 1, 3, /this escape/],
  ['"a\nb"', 1, 3, /bare control character/],
  ['[01]', 1, 3, /expected "," or "]"/],
];

for (const [text, line, column, problem] of cases) {
  test(`tells where ${JSON.stringify(text)} breaks`, () => {
    const fault = locateJsonFault(text);
    assert.match(fault.problem, problem);
    assert.deepEqual([fault.line, fault.column], [line, column]);
  });
}

test('finds a fault in every text that the parser refuses, and none in others', () => {
  const broken = fc
    .tuple(fc.json(), fc.nat(), fc.constantFrom('', '}', ']', ',', ':', '"', '\\', 'x', '\u0001', '-', '.'))
    .map(([json, at, insert]) => {
      const place = at % (json.length + 1);
      return json.slice(0, place) + insert + json.slice(insert === '' ? place + 1 : place);
    });
  fc.assert(
    fc.property(broken, (text) => {
      let valid = true;
      try {
        JSON.parse(text);
      } catch {
        valid = false;
      }
      assert.equal(locateJsonFault(text).problem === 'not valid JSON', valid, text);
    }),
    { numRuns: 500 },
  );
});

test('deep nesting does not exhaust the stack', () => {
  assert.match(locateJsonFault('['.repeat(200_000)).problem, /ends too early/);
});
