/**
 * From the steps of a definition to the calls that make an answer. Every function takes one value, so what `out` says is
 * a chain: the input goes through the first call, its answer through the next. `id` gives its value on, and disappears.
 */
import type { Fail, Path } from './definition.js';

/** One call of a model. */
export interface Call {
  /** Local name of the model. */
  readonly model: string;
  /** Reference of the adapter that answers; absent = whatever the request asks for. */
  readonly adapter?: string | undefined;
  /** Where it stands, for example `workflow.out`. */
  readonly place: string;
}

/** What steps may refer to. */
export interface CallScope {
  readonly models: ReadonlySet<string>;
  /** Local name of the model of each adapter reference. */
  readonly adapters: ReadonlyMap<string, string>;
  readonly fail: Fail;
}

/** Most calls of one answer, and deepest nesting of one step. */
const MAX_CALLS = 64;

/** Calls of `out`, first to last. Checks every step, also those that `out` does not need. */
export function compileCalls(steps: Readonly<Record<string, unknown>>, scope: CallScope): readonly Call[] {
  const { fail } = scope;
  if (!Object.hasOwn(steps, 'out')) fail(['workflow'], 'has no step "out", which is what a call answers with');
  if (Object.hasOwn(steps, 'in')) fail(['workflow', 'in'], 'is the name of the input; call the step something else');
  const done = new Map<string, readonly Call[]>();
  const open: string[] = [];

  const step = (name: string, path: Path): readonly Call[] => {
    const known = done.get(name);
    if (known !== undefined) return known;
    if (open.includes(name)) fail(path, `the steps go in a circle: ${[...open, name].join(' -> ')}`);
    open.push(name);
    const calls = expression(steps[name], ['workflow', name], 0);
    open.pop();
    if (calls.length > MAX_CALLS) fail(path, `needs ${calls.length} calls; at most ${MAX_CALLS} are made`);
    done.set(name, calls);
    return calls;
  };

  const argument = (value: unknown, path: Path, depth: number): readonly Call[] => {
    if (Array.isArray(value)) return expression(value, path, depth + 1);
    if (value === 'in') return [];
    if (typeof value === 'string' && Object.hasOwn(steps, value)) return step(value, path);
    const names = ['in', ...Object.keys(steps).filter((name) => name !== 'out')].join(', ');
    return fail(path, `${JSON.stringify(value)} is neither "in", nor a step, nor a call in brackets (known: ${names})`);
  };

  const expression = (value: unknown, path: Path, depth: number): readonly Call[] => {
    if (!Array.isArray(value) || value.length === 0) {
      return fail(path, 'must be a call: a list of a function or model and its arguments, such as ["m", "in"]');
    }
    if (depth > MAX_CALLS) fail(path, `is nested deeper than ${MAX_CALLS} calls`);
    const [called, ...args] = value as unknown[];
    const last = (count: number, usage: string): readonly Call[] => {
      if (args.length !== count) fail(path, `${called} takes ${usage}, but is given ${args.length} arguments`);
      return argument(args[count - 1], [...path, count], depth);
    };
    const place = path.map((part) => (typeof part === 'number' ? `[${part}]` : part)).join('.');
    if (typeof called === 'string' && scope.models.has(called)) {
      return [...last(1, 'one argument'), { model: called, place }];
    }
    if (called === 'id') return last(1, 'one argument');
    if (called === 'adapter') {
      const before = last(2, 'the reference of an adapter and one argument');
      const model = typeof args[0] === 'string' ? scope.adapters.get(args[0]) : undefined;
      if (model === undefined) {
        const known = [...scope.adapters.keys()].join(', ') || 'none';
        fail([...path, 1], `there is no adapter ${JSON.stringify(args[0])} in configs.adapters (there: ${known})`);
      }
      return [...before, { model: model!, adapter: args[0] as string, place }];
    }
    const known = [...scope.models, 'adapter', 'id'].join(', ');
    return fail([...path, 0], `there is no model or function ${JSON.stringify(called)} (known: ${known})`);
  };

  for (const name of Object.keys(steps)) step(name, ['workflow', name]);
  const calls = done.get('out')!;
  if (calls.length === 0) fail(['workflow', 'out'], 'calls no model; the answer must come from one');
  return calls;
}
