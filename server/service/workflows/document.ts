/** The text of a workflow's definition: `workflow.json`, or the same as YAML. Whatever is refused later has its line, too. */
import { resolve } from 'node:path';
import { type Document, isMap, isNode, LineCounter, parseDocument } from 'yaml';
import { AppError } from '../../errors.js';

/** An object of the definition. */
export type Fields = Readonly<Record<string, unknown>>;

/** Place of a value: keys and indices from the top. */
export type Path = readonly (string | number)[];

/** Longest definition that is read, in characters. */
const MAX_LENGTH = 1024 * 1024;

/** Refuses the definition, at a place in it. */
export type Fail = (path: Path, problem: string) => never;

/**
 * Reads a text.
 * @param origin what messages call it
 * @param dir folder of the file, for `{model_dir}` and relative paths; absent = there is none
 * @throws AppError WORKFLOW_INVALID
 */
export function readDocument(
  text: string,
  origin: string,
  dir?: string,
): { readonly top: Fields; readonly fail: Fail } {
  const refuse = (where: string, problem: string, field = ''): never => {
    const message = `${origin}: ${where}${where === '' ? '' : ' '}${problem}`;
    throw new AppError('WORKFLOW_INVALID', message, { violations: [{ field, description: problem }] });
  };
  if (text.length > MAX_LENGTH) refuse('', `holds ${text.length} characters; at most ${MAX_LENGTH} are read`);
  const lines = new LineCounter();
  let document: Document;
  let top: unknown;
  try {
    document = parseDocument(text, { lineCounter: lines, uniqueKeys: true, prettyErrors: false });
    const [error] = document.errors;
    if (error !== undefined) {
      const { line, col } = lines.linePos(error.pos[0]);
      refuse(`line ${line} column ${col}:`, error.message);
    }
    top = document.toJS({ maxAliasCount: 100 });
  } catch (thrown) {
    if (thrown instanceof AppError) throw thrown;
    return refuse('', `cannot be read: ${(thrown as Error).message}`);
  }
  const fail: Fail = (path, problem) => {
    const node = nearestNode(document, path);
    const at = node?.range ? lines.linePos(node.range[0]) : undefined;
    const name = path.map((part, i) => (typeof part === 'number' ? `[${part}]` : i === 0 ? part : `.${part}`)).join('');
    return refuse(`${name || 'the top'}${at ? ` (line ${at.line} column ${at.col})` : ''}:`, problem, name);
  };
  if (!isObject(top)) return fail([], 'must be an object with name, models and workflow');
  return { top: located(top, dir) as Fields, fail };
}

/** The node at a path, or of the innermost part of it that is there. */
function nearestNode(document: Document, path: Path) {
  for (let depth = path.length; depth >= 0; depth -= 1) {
    const node = depth === 0 ? document.contents : document.getIn(path.slice(0, depth), true);
    if (isNode(node) && !(depth === 0 && isMap(node) && path.length > 0)) return node;
  }
  return undefined;
}

/** Fills `{model_dir}` in, and makes paths that begin with "./" or "../" absolute. */
function located(value: unknown, dir: string | undefined): unknown {
  if (dir === undefined) return value;
  if (typeof value === 'string') {
    return /^\.\.?[\\/]/.test(value) ? resolve(dir, value) : value.replaceAll('{model_dir}', dir);
  }
  if (Array.isArray(value)) return value.map((entry) => located(entry, dir));
  if (!isObject(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, entry]) => [key, located(entry, dir)]));
}

/** True for an object that is no list. */
export function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
