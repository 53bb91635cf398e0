/** Definitions of workflows: what they come to, and where faults are. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { AppError } from '../../server/errors.js';
import { parseDefinition } from '../../server/service/workflows/definition.js';

const base = { name: 'w', models: { m: '/m' }, configs: { adapters: { a: { model: 'm', src: '/a' } } } };
const parse = (value: object) => parseDefinition(JSON.stringify(value, null, 1), 'f.json');

function refused(text: string): string {
  try {
    parseDefinition(text, 'f.json');
  } catch (error) {
    assert.ok(error instanceof AppError, String(error));
    assert.equal(error.reason, 'WORKFLOW_INVALID');
    return error.message;
  }
  return assert.fail('it was taken');
}

describe('a definition', () => {
  it('comes to the calls of out, first to last', () => {
    const { calls } = parse({ ...base, workflow: { draft: ['m', 'in'], out: ['adapter', 'a', ['id', 'draft']] } });
    assert.deepEqual(
      calls.map(({ model, adapter }) => [model, adapter]),
      [
        ['m', undefined],
        ['m', 'a'],
      ],
    );
  });

  it('of the documentation is one, and its paths start at its folder', () => {
    const page = readFileSync(new URL('../../docs/workflows.md', import.meta.url), 'utf8');
    const yaml = /```yaml\n(.*?)```/s.exec(page)![1]!;
    const { name, version, models, adapters, calls } = parseDefinition(yaml, 'the page', '/srv/flow');
    assert.deepEqual([name, version, models.get('m')?.url], ['greeter', '0.1', '/srv/base']);
    assert.deepEqual([adapters.get('fr')?.source, adapters.get('fr')?.pin], ['/srv/base/adapters/fr', true]);
    assert.deepEqual(calls.length, 2);
  });

  const faults: readonly [string, object, RegExp][] = [
    ['a circle', { s: ['m', 'out'], out: ['m', 's'] }, /circle: s -> out -> s/],
    ['an unknown call', { out: ['x', 'in'] }, /^f\.json: workflow\.out\[0\] \(line \d+ column \d+\): .*"x"/],
    ['an unknown adapter', { out: ['adapter', 'b', 'in'] }, /workflow\.out\[1\].*"b".*there: a/],
    ['too many arguments', { out: ['m', 'in', 'in'] }, /takes one argument, but is given 2/],
    ['no model', { out: ['id', 'in'] }, /calls no model/],
    ['an unknown step', { out: ['m', 'nope'] }, /"nope" is neither/],
    ['no out', { s: ['m', 'in'] }, /no step "out"/],
    ['a fault in a step that out does not need', { s: ['x', 'in'], out: ['m', 'in'] }, /workflow\.s\[0\]/],
  ];
  for (const [what, workflow, message] of faults) {
    it(`with ${what} is refused with the place`, () => {
      assert.match(refused(JSON.stringify({ ...base, workflow }, null, 1)), message);
    });
  }

  it('names the field that is at fault as a path and nothing else', () => {
    for (const [definition, field] of [
      [{ name: 'w' }, 'models'],
      [{ ...base, workflow: { out: ['x', 'in'] } }, 'workflow.out[0]'],
      [[], ''],
    ] as const) {
      assert.throws(
        () => parse(definition),
        (error: AppError) => error.violations[0]?.field === field,
        field,
      );
    }
  });

  it('that is broken, deep or explosive is refused', () => {
    assert.match(refused('{"name": "w",\n "models": {"m" "x"}}'), /line 2 column 17/);
    refused('['.repeat(500_000));
    refused('');
    const nine = (name: string) => `[${Array(9).fill(`*${name}`).join(', ')}]`;
    refused(`a: &a [1, 1]\nb: &b ${nine('a')}\nc: &c ${nine('b')}\nd: &d ${nine('c')}\ne: ${nine('d')}`);
    assert.match(
      refused(JSON.stringify({ ...base, functions: { f: 'x.Y' }, workflow: { out: ['m', 'in'] } })),
      /functions/,
    );
  });
});
