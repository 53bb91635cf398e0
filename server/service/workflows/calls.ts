/**
 * From the steps of a definition to the values that make an answer. A value is the input, or what a model or function
 * makes of other values; a step that is used several times is one value, computed once for a request.
 */
import type { Fail, Path } from './document.js';

/** One call of a model. */
export interface Call {
  /** Local name of the model. */
  readonly model: string;
  /** Reference of the adapter that answers; absent = whatever the request asks for. */
  readonly adapter?: string | undefined;
  /** Where it stands, for example `workflow.out`. */
  readonly place: string;
}

/** A value of a workflow, for each input of a request. */
export type Value =
  | { readonly kind: 'in' }
  | { readonly kind: 'model'; readonly call: Call; readonly from: Value }
  | { readonly kind: 'function'; readonly name: string; readonly place: string; readonly args: readonly Value[] };

/** What a definition comes to. */
export interface Plan {
  readonly out: Value;
  /** Every value that `out` needs, each after those that it needs itself, without the input. */
  readonly order: readonly Exclude<Value, { kind: 'in' }>[];
  /** The calls of models among them; at least one. The last is the one that a request's adapters are for. */
  readonly calls: readonly Call[];
}

/** What steps may refer to. */
export interface CallScope {
  readonly models: ReadonlySet<string>;
  readonly functions: ReadonlySet<string>;
  /** Local name of the model of each adapter reference. */
  readonly adapters: ReadonlyMap<string, string>;
  readonly fail: Fail;
}

/** Functions that are there in every workflow; `ensemble` is one of the original's that is refused by its name. */
export const BUILT_IN: readonly string[] = ['id', 'adapter', 'functionsApply', 'ensemble'];

/** Most calls of one answer, and deepest nesting of steps. */
const MAX_CALLS = 64;
const IN: Value = { kind: 'in' };

/** Several values, which only a function can take. */
type Values = readonly Value[];

/** What `out` needs. Checks every step, also those that `out` does not need. */
export function compileCalls(steps: Readonly<Record<string, unknown>>, scope: CallScope): Plan {
  const { fail } = scope;
  if (!Object.hasOwn(steps, 'out')) fail(['workflow'], 'has no step "out", which is what a call answers with');
  if (Object.hasOwn(steps, 'in')) fail(['workflow', 'in'], 'is the name of the input; call the step something else');
  const done = new Map<string, Value | Values>();
  const open: string[] = [];

  const step = (name: string, path: Path): Value | Values => {
    const known = done.get(name);
    if (known !== undefined) return known;
    if (open.includes(name)) fail(path, `the steps go in a circle: ${[...open, name].join(' -> ')}`);
    if (open.length >= MAX_CALLS) fail(path, `is a chain of more than ${MAX_CALLS} steps`);
    open.push(name);
    const value = expression(steps[name], ['workflow', name], 0);
    open.pop();
    done.set(name, value);
    return value;
  };

  const argument = (value: unknown, path: Path, depth: number): Value | Values => {
    if (Array.isArray(value)) return expression(value, path, depth + 1);
    if (value === 'in') return IN;
    if (typeof value === 'string' && Object.hasOwn(steps, value)) return step(value, path);
    const names = ['in', ...Object.keys(steps).filter((name) => name !== 'out')].join(', ');
    return fail(path, `${JSON.stringify(value)} is neither "in", nor a step, nor a call in brackets (known: ${names})`);
  };

  /** A model or function of the definition on values that are there. */
  const apply = (called: string, args: readonly (Value | Values)[], path: Path): Value => {
    const place = placeOf(path);
    if (scope.functions.has(called)) return { kind: 'function', name: called, place, args: args.flat() };
    return { kind: 'model', call: { model: called, place }, from: single(args[0]!, path, called) };
  };

  const single = (value: Value | Values, path: Path, called: string): Value =>
    isList(value)
      ? fail(path, `${called} takes one value, not a list of them, which only a function of "functions" takes`)
      : value;

  const expression = (value: unknown, path: Path, depth: number): Value | Values => {
    if (!Array.isArray(value) || value.length === 0) {
      return fail(path, 'must be a call: a list of a function or model and its arguments, such as ["m", "in"]');
    }
    if (depth > MAX_CALLS) fail(path, `is nested deeper than ${MAX_CALLS} calls`);
    const [called, ...args] = value as unknown[];
    const count = (wanted: number, usage: string): void => {
      if (args.length !== wanted) fail(path, `${called} takes ${usage}, but is given ${args.length} arguments`);
    };
    const at = (index: number): Value | Values => argument(args[index], [...path, index + 1], depth);
    if (typeof called === 'string' && scope.models.has(called)) {
      count(1, 'one argument');
      return apply(called, [at(0)], path);
    }
    if (typeof called === 'string' && scope.functions.has(called)) {
      if (args.length === 0) fail(path, `${called} needs at least one argument`);
      const values = args.map((_, index) => at(index));
      return apply(called, values, path);
    }
    switch (called) {
      case 'id':
        count(1, 'one argument');
        return at(0);
      case 'adapter': {
        count(2, 'the reference of an adapter and one argument');
        const from = single(at(1), path, 'adapter');
        const reference = String(args[0]);
        const model = typeof args[0] === 'string' ? scope.adapters.get(reference) : undefined;
        if (model !== undefined)
          return { kind: 'model', call: { model, adapter: reference, place: placeOf(path) }, from };
        const known = [...scope.adapters.keys()].join(', ') || 'none';
        return fail(
          [...path, 1],
          `there is no adapter ${JSON.stringify(args[0])} in configs.adapters (there: ${known})`,
        );
      }
      case 'functionsApply': {
        count(2, 'a list of models and functions, and one argument');
        const [names] = args;
        const to = single(at(1), path, 'functionsApply');
        if (!Array.isArray(names) || names.length === 0 || names.length > MAX_CALLS) {
          return fail([...path, 1], `must be a list of 1 to ${MAX_CALLS} names of models and functions`);
        }
        return names.map((name: unknown, index) => {
          if (typeof name === 'string' && (scope.models.has(name) || scope.functions.has(name))) {
            return apply(name, [to], [...path, 1, index]);
          }
          const known = [...scope.models, ...scope.functions].join(', ');
          return fail([...path, 1, index], `there is no model or function ${JSON.stringify(name)} (known: ${known})`);
        });
      }
      case 'ensemble':
        return fail(
          [...path, 0],
          'ensemble averages the outputs of classifiers, and models here answer with texts; merge them with a function of "functions"',
        );
      default: {
        const known = [...scope.models, ...scope.functions, 'adapter', 'functionsApply', 'id'].join(', ');
        return fail([...path, 0], `there is no model or function ${JSON.stringify(called)} (known: ${known})`);
      }
    }
  };

  for (const name of Object.keys(steps)) step(name, ['workflow', name]);
  const out = single(done.get('out')!, ['workflow', 'out'], 'out');
  const order = orderOf(out);
  if (order.length > MAX_CALLS) {
    fail(['workflow', 'out'], `needs ${order.length} calls; at most ${MAX_CALLS} are made`);
  }
  const calls = order.flatMap((value) => (value.kind === 'model' ? [value.call] : []));
  if (calls.length === 0) fail(['workflow', 'out'], 'calls no model; the answer must come from one');
  return { out, order, calls };
}

function isList(value: Value | Values): value is Values {
  return Array.isArray(value);
}

function placeOf(path: Path): string {
  return path.map((part, at) => (typeof part === 'number' ? `[${part}]` : at === 0 ? part : `.${part}`)).join('');
}

function orderOf(out: Value): Plan['order'] {
  const order = new Set<Exclude<Value, { kind: 'in' }>>();
  const visit = (value: Value): void => {
    if (value.kind === 'in' || order.has(value)) return;
    if (value.kind === 'model') visit(value.from);
    else for (const one of value.args) visit(one);
    order.add(value);
  };
  visit(out);
  return [...order];
}
