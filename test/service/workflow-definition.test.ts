/** Definitions of workflows: what they come to, and where faults are. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { AppError } from '../../server/errors.js';
import { parseDefinition } from '../../server/service/workflows/definition.js';
import { readDefinition } from '../../server/service/workflows/source.js';

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
    const { plan } = parse({ ...base, workflow: { draft: ['m', 'in'], out: ['adapter', 'a', ['id', 'draft']] } });
    assert.deepEqual(
      plan.calls.map(({ model, adapter }) => [model, adapter]),
      [
        ['m', undefined],
        ['m', 'a'],
      ],
    );
  });

  it('is refused where a field that nothing reads would choose what answers, and told of other such fields', () => {
    const workflow = { out: ['adapter', 'a', 'in'] };
    const model = (more: object) => ({ ...base, models: { m: { modelUrl: '/m', ...more } }, workflow });
    const adapter = (more: object) => ({
      ...base,
      configs: { adapters: { a: { model: 'm', src: '/a', ...more } } },
      workflow,
    });
    for (const [value, place] of [
      [{ ...base, adapter: 'a', workflow }, 'adapter'],
      [{ ...base, configs: { ...base.configs, adaptors: {} }, workflow }, 'configs.adaptors'],
      [model({ adapters: 'a' }), 'models.m.adapters'],
      [model({ options: { adapter: 'a' } }), 'models.m.options.adapter'],
      [model({ options: { merge: 'a' } }), 'models.m.options.merge'],
      [adapter({ weight: 0.5 }), 'configs.adapters.a.weight'],
      [adapter({ options: { weight: 0.5 } }), 'configs.adapters.a.options.weight'],
      [adapter({ options: { Weights: '0.5' } }), 'configs.adapters.a.options.Weights'],
    ] as const) {
      const message = refused(JSON.stringify(value, null, 1));
      assert.ok(message.includes(`${place} (line `) && message.includes('would choose what answers'), message);
    }
    assert.deepEqual(parse({ ...model({ options: { max_lora_rank: '8' }, gpus: 1 }), colour: 'red' }).warnings, [
      'f.json: colour is not known and is ignored',
      'f.json: models.m.gpus is ignored',
      'f.json: models.m.options.max_lora_rank is ignored',
    ]);
    assert.deepEqual(parse(adapter({ url: '/a' })).warnings, ['f.json: configs.adapters.a.url is ignored']);
  });

  it('is refused where a batch or queue is longer than the settings of the server allow', () => {
    for (const [fields, what] of [
      [{ batchSize: 1025 }, 'models.m.batchSize (line 6 column 17): must be a whole number between 1 and 1024'],
      [{ queueSize: 0 }, 'models.m.queueSize (line 6 column 17): must be a whole number between 1 and 1000000'],
    ] as const) {
      const value = { ...base, models: { m: { modelUrl: '/m', ...fields } }, workflow: { out: ['m', 'in'] } };
      assert.equal(refused(JSON.stringify(value, null, 1)), `f.json: ${what}`);
    }
  });

  it('of the documentation is one, and its paths start at its folder', () => {
    const page = readFileSync(new URL('../../docs/workflows.md', import.meta.url), 'utf8');
    const yaml = /```yaml\n(.*?)```/s.exec(page)![1]!;
    const { name, version, models, adapters, plan } = parseDefinition(yaml, 'the page', '/srv/flow');
    assert.deepEqual([name, version, models.get('m')?.url], ['greeter', '0.1', '/srv/base']);
    assert.deepEqual([adapters.get('fr')?.source, adapters.get('fr')?.pin], ['/srv/base/adapters/fr', true]);
    assert.deepEqual(plan.calls.length, 2);
  });

  it('computes a step once, and applies models and functions to one value', () => {
    const { plan, functions } = parse({
      ...base,
      functions: { f: '/code/f.ts', merge: '/code/merge.mjs' },
      configs: { ...base.configs, merge: { sep: '|', most: 3 } },
      workflow: {
        pre: ['f', 'in'],
        all: ['functionsApply', ['m', 'f'], 'pre'],
        out: ['merge', 'all', 'pre', ['adapter', 'a', 'pre']],
      },
    });
    const places = plan.order.map((value) => (value.kind === 'model' ? value.call.place : value.place));
    assert.deepEqual(places, [
      'workflow.pre',
      'workflow.all[1][0]',
      'workflow.all[1][1]',
      'workflow.out[3]',
      'workflow.out',
    ]);
    const { out } = plan;
    assert.ok(out.kind === 'function');
    assert.deepEqual(
      out.args.map((value) => (value.kind === 'function' ? value.name : value.kind)),
      ['model', 'f', 'f', 'model'],
    );
    assert.equal(out.args[2], plan.order[0], 'one value, however often it is used');
    assert.deepEqual(functions.get('merge'), { module: '/code/merge.mjs', properties: { sep: '|', most: '3' } });
  });

  it('keeps modules as absolute paths, since what is kept has no folder', () => {
    const text = JSON.stringify({
      ...base,
      functions: { f: 'f.ts', g: './g.ts' },
      workflow: { out: ['f', ['m', 'in']] },
    });
    const { functions, json } = parseDefinition(text, 'f.json', '/srv/flow');
    assert.deepEqual(
      [...functions.values()].map(({ module }) => module),
      ['/srv/flow/f.ts', '/srv/flow/g.ts'],
    );
    assert.deepEqual(parseDefinition(json, 'kept').functions, functions);
    assert.throws(() => parseDefinition(text, 'the body'), /functions\.f .*must be an absolute path/);
  });

  const faults: readonly [string, object, RegExp][] = [
    ['a circle', { s: ['m', 'out'], out: ['m', 's'] }, /circle: s -> out -> s/],
    ['an unknown call', { out: ['x', 'in'] }, /^f\.json: workflow\.out\[0\] \(line \d+ column \d+\): .*"x"/],
    ['an unknown adapter', { out: ['adapter', 'b', 'in'] }, /workflow\.out\[1\].*"b".*there: a/],
    ['too many arguments', { out: ['m', 'in', 'in'] }, /takes one argument, but is given 2/],
    ['no model', { out: ['id', 'in'] }, /calls no model/],
    ['an unknown step', { out: ['m', 'nope'] }, /"nope" is neither/],
    ['no out', { s: ['m', 'in'] }, /no step "out"/],
    ['ensemble', { out: ['ensemble', ['functionsApply', ['m', 'm'], 'in']] }, /workflow\.out\[0\].*ensemble averages/],
    [
      'an unknown function to apply',
      { out: ['f', ['functionsApply', ['m', 'x'], 'in']] },
      /workflow\.out\[1\]\[1\]\[1\].*"x"/,
    ],
    ['nothing to apply', { out: ['f', ['functionsApply', [], 'in']] }, /must be a list of 1 to 64 names/],
    ['a list for a model', { out: ['m', ['functionsApply', ['m'], 'in']] }, /m takes one value, not a list/],
    ['a list as the answer', { out: ['functionsApply', ['m'], 'in'] }, /out takes one value, not a list/],
    ['a function of nothing', { out: ['f'] }, /f needs at least one argument/],
    ['functions only', { out: ['f', 'in'] }, /calls no model/],
    ['a fault in a step that out does not need', { s: ['x', 'in'], out: ['m', 'in'] }, /workflow\.s\[0\]/],
  ];
  for (const [what, workflow, message] of faults) {
    it(`with ${what} is refused with the place`, () => {
      const functions = { f: '/code/f.ts' };
      assert.match(refused(JSON.stringify({ ...base, functions, workflow }, null, 1)), message);
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
    const steps = Object.fromEntries(Array.from({ length: 200 }, (_, at) => [`s${at}`, ['id', `s${at + 1}`]]));
    assert.match(
      refused(JSON.stringify({ ...base, workflow: { out: ['m', 's0'], ...steps, s200: ['id', 'in'] } })),
      /chain of more than 64 steps/,
    );
  });

  it('names the function that cannot be one', () => {
    const definition = (functions: object) => JSON.stringify({ ...base, functions, workflow: { out: ['m', 'in'] } });
    assert.match(refused(definition({ f: 'com.example.Merge' })), /functions\.f .*"com\.example\.Merge" is no \.ts/);
    assert.match(refused(definition({ m: '/f.ts' })), /functions\.m .*name of a model/);
    assert.match(refused(definition({ ensemble: '/f.ts' })), /functions\.ensemble .*taken here/);
  });
});

describe('the template adapter', () => {
  const read = (more: Record<string, string> = {}) => {
    const parameters = { adapter: 'fr', url: 'adapters/fr', model: '/base', ...more };
    return readDefinition({ kind: 'template', template: 'adapter', parameters }, []);
  };

  it('takes a version and options of its adapter', async () => {
    assert.equal((await read()).version, '0.1');
    const { name, version, adapters } = await read({ version: '7', pin: 'true', tone: 'dry' });
    assert.deepEqual([name, version], ['fr', '7']);
    const { pin, options } = adapters.get('fr')!;
    assert.deepEqual([pin, options], [true, { tone: 'dry' }]);
  });

  it('refuses what other registrations have, and a version that is none', async () => {
    for (const field of ['name', 'src', 'weight']) {
      await assert.rejects(read({ [field]: 'x' }), (error: AppError) => error.violations[0]?.field === field, field);
    }
    await assert.rejects(read({ version: 'a b' }), (error: AppError) => error.reason === 'WORKFLOW_INVALID');
    await assert.rejects(read({ Pin: 'true' }), /options\.Pin .*is spelt pin/);
  });
});
