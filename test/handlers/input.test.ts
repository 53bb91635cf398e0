/** What a handler's input gives. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defineHandler, Input } from '../../sdk/handler.js';

const item = (key: string, value: string) => ({ key, value: Buffer.from(value) });

test('an input that is no batch is a batch of itself', () => {
  const input = new Input({ properties: [['x', 'y']], content: [item('data', 'a')] });
  assert.equal(input.isBatch(), false);
  assert.deepEqual(input.getBatches(), [input]);
});

test('a batch has an input for each prefix, with the properties that all share', () => {
  const input = new Input({
    properties: [
      ['Batch_Size', '3'],
      ['tenant', 't'],
      ['batch_000.adapter', 'fr'],
      ['BATCH_002.Tenant', 'own'],
    ],
    content: [
      item('batch_000.data', 'first'),
      item('batch_001.data', 'second'),
      item('batch_001.extra.key', 'dotted'),
      item('batch_002.other', 'no data'),
      item('loose', 'of nobody'),
    ],
  });
  assert.equal(input.isBatch(), true);
  const [first, second, third, ...more] = input.getBatches();
  assert.equal(more.length, 0);
  assert.deepEqual(
    [first!.getAsString(), first!.getAdapter(), first!.getProperty('tenant'), first!.isBatch()],
    ['first', 'fr', 't', false],
  );
  assert.deepEqual([second!.getAsString(), second!.getAdapter()], ['second', undefined]);
  assert.equal(second!.getAsString('extra.key'), 'dotted');
  assert.deepEqual([third!.getAsString(), third!.getProperty('tenant')], ['no data', 'own']);
});

test('places that name adapters must agree, and with --compat djl the first counts', () => {
  const identifier = 'X-Amzn-SageMaker-Adapter-Identifier';
  const named = (properties: [string, string][], query: string[] = [], firstPlaceCounts = false) =>
    new Input({ properties, content: query.map((name) => item('adapter', name)), firstPlaceCounts });
  assert.equal(named([]).getAdapter(), undefined);
  assert.equal(named([[identifier, 'fr']], ['fr', 'fr']).getAdapter(), 'fr');
  assert.equal(named([[identifier, '']]).getAdapter(), '');
  assert.equal(named([[identifier, 'é']], ['e\u0301']).getAdapter(), 'é', 'two forms of one name');
  for (const [properties, query] of [
    [[[identifier, 'fr']], ['de']],
    [[[identifier, '']], ['de']],
    [
      [
        ['adapter', 'de'],
        ['adapter', 'fr'],
      ],
      [],
    ],
    [[], ['fr', 'de']],
    [[['adapter', 'de']], ['fr']],
  ] as [[string, string][], string[]][]) {
    assert.throws(
      () => named(properties, query).getAdapter(),
      (error: Error & { code?: number }) =>
        error.code === 400 && /^the request asks for .* and for /.test(error.message),
      JSON.stringify([properties, query]),
    );
  }
  assert.equal(
    named(
      [
        [identifier, 'fr'],
        ['adapter', 'de'],
      ],
      ['es'],
      true,
    ).getAdapter(),
    'fr',
  );
});

test('a batch of no size, or with an item outside of it, is refused', () => {
  const batch = (size: string, ...keys: string[]) =>
    new Input({ properties: [['batch_size', size]], content: keys.map((key) => item(key, '')) });
  for (const size of ['0', '1.5', 'x', '', '1001']) {
    assert.throws(() => batch(size).getBatches(), /batch_size must be a whole number from 1 to 1000/, size);
  }
  assert.throws(() => batch('2', 'batch_002.data').getBatches(), /batch_002\.data lies outside of a batch of 2/);
});

test('defineHandler types input and context, and gives the handler back as it is', async () => {
  const handler = defineHandler({
    handle: (input) => input.getBatches().map((one) => one.getAsString() ?? ''),
  });
  const input = new Input({ properties: [['batch_size', '2']], content: [item('batch_001.data', 'b')] });
  const answer: string[] = handler.handle(input);
  assert.deepEqual(answer, ['', 'b']);
});
