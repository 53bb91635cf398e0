import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { AppError } from '../../server/errors.js';
import type { AdapterPlaces } from '../../server/rest/adapter-places.js';
import { customAttribute } from '../../server/rest/headers.js';
import { selectAdapters } from '../../server/rest/selection.js';

const NONE: AdapterPlaces = { body: undefined, query: [], customAttribute: undefined, identifier: undefined };
const list = (count: number) => ({ count, isList: true });
const text = { count: 1, isList: false };
const one = (name: string) => [{ name, weight: 1 }];
const body = (value: unknown, inputs = text) => selectAdapters({ ...NONE, body: value }, inputs);

function reasonOf(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    if (error instanceof AppError) return error.reason;
    throw error;
  }
  return 'none';
}

test('nothing named is the base for every input', () => {
  assert.equal(selectAdapters(NONE, list(2)), undefined);
});

test('a name, null, "" and [] stand for every input', () => {
  assert.deepEqual(body('a', list(2)), [one('a'), one('a')]);
  for (const base of [null, '', []]) assert.deepEqual(body(base, list(2)), [[], []]);
});

test('a conflict names what each place asks for, whatever is in the names', () => {
  const places = { ...NONE, body: [[{ name: 'a"b', weight: 0.5 }]], query: ['c'] };
  assert.throws(() => selectAdapters(places, list(1)), /the body asks for "a\\"b" x 0\.5, \?adapter= for "c"/);
});

test('a list names the adapter of each input', () => {
  assert.deepEqual(body(['a', '', null, 'b'], list(4)), [one('a'), [], [], one('b')]);
  assert.deepEqual(body(['a']), [one('a')]);
});

test('a list of another length is refused', () => {
  for (const [value, inputs] of [
    [['a'], list(2)],
    [['a', 'b', 'c'], list(2)],
    [['a', 'b'], list(1)],
    [['a', 'b'], text],
    // A weighted sum must not be taken for one entry per input, or the other way round.
    [[{ name: 'a' }, { name: 'b' }], list(1)],
  ] as const) {
    assert.equal(
      reasonOf(() => body(value, inputs)),
      'ADAPTER_COUNT_MISMATCH',
      JSON.stringify(value),
    );
  }
});

test('weighted lists mix adapters', () => {
  const mix = [
    { name: 'a', weight: 0.5 },
    { name: 'b', weight: 2 },
  ];
  assert.deepEqual(body(mix), [mix]);
  assert.deepEqual(body([mix, 'c', null, { name: 'd' }], list(4)), [mix, one('c'), [], one('d')]);
  assert.deepEqual(body({ name: 'a' }, list(2)), [one('a'), one('a')]);
});

test('what is no selection is refused with the place of the fault', () => {
  for (const value of [5, true, [5], [true], [['a']], [{ name: '' }], [{ name: 'a', weight: 'x' }], [{ nam: 'a' }]]) {
    assert.equal(
      reasonOf(() => body(value, list(1))),
      'INVALID_REQUEST',
      JSON.stringify(value),
    );
  }
  assert.throws(() => body([[{ name: 'a', wieght: 1 }]], list(1)), /adapters\[0\]\[0\]\.wieght is not known/);
});

test('places that agree are one, places that differ are refused, and none is none', () => {
  const place = fc.option(fc.constantFrom('', 'a', 'b'), { nil: undefined });
  fc.assert(
    fc.property(place, place, place, fc.array(fc.constantFrom('', 'a', 'b'), { maxLength: 2 }), (b, c, i, query) => {
      const sources = { body: b, customAttribute: c, identifier: i, query };
      const named = [b, c, i, ...query].filter((name) => name !== undefined);
      if (new Set(named).size > 1) {
        assert.equal(
          reasonOf(() => selectAdapters(sources, list(2))),
          'CONFLICTING_ADAPTERS',
        );
      } else {
        const wanted = named[0] ? one(named[0]) : [];
        // Nothing named is not the same as the base named: an adapter of the path may still decide.
        assert.deepEqual(selectAdapters(sources, list(2)), named.length === 0 ? undefined : [wanted, wanted]);
      }
    }),
  );
});

test('one name in two forms of Unicode is one name', () => {
  const [composed, decomposed] = ['é', 'e\u0301'];
  const sources = { ...NONE, identifier: composed, query: [decomposed], body: decomposed };
  assert.deepEqual(selectAdapters(sources, text), [one(composed)]);
});

test('custom attributes are split and trimmed as the original does', () => {
  assert.equal(customAttribute('trace=abc; adapter = fr ;x', 'adapter'), 'fr');
  assert.equal(customAttribute('Adapter=', 'adapter'), '');
  assert.equal(customAttribute('adapters=fr', 'adapter'), undefined);
  assert.equal(customAttribute('trace=a,b=c', 'trace'), 'a,b=c');
  assert.equal(customAttribute(undefined, 'adapter'), undefined);
});

test('custom attributes in several lines, which HTTP joins with commas, are all there', () => {
  assert.equal(customAttribute('trace=abc, adapter=fr', 'adapter'), 'fr');
  assert.equal(customAttribute('trace=a,b=c,Adapter = fr; x', 'adapter'), 'fr');
  assert.equal(customAttribute('trace=abc, adapter=fr', 'trace'), 'abc');
  assert.equal(customAttribute('adapter=fr, model_name=m', 'model_name'), 'm');
  assert.equal(customAttribute('adapter=a,b', 'adapter'), 'a,b');
});

test('in mode djl the first of header, body, query, custom attributes and model field decides', () => {
  const all = { identifier: 'a', body: 'b', query: ['c', 'd'], customAttribute: 'e', modelField: 'f' };
  const chosen = (sources: Partial<AdapterPlaces>) =>
    selectAdapters({ ...NONE, ...sources }, text, 'djl')?.[0]?.map(({ name }) => name);
  assert.deepEqual(chosen(all), ['a']);
  assert.deepEqual(chosen({ ...all, identifier: '' }), []);
  assert.deepEqual(chosen({ ...all, identifier: undefined }), ['b']);
  assert.deepEqual(chosen({ ...all, identifier: undefined, body: undefined }), ['c']);
  assert.deepEqual(chosen({ customAttribute: 'e', modelField: 'f' }), ['e']);
  assert.deepEqual(chosen({ modelField: 'f' }), ['f']);
  assert.equal(chosen({}), undefined);
});
