/** Where definitions come from: files below the allowed folders, texts, and the built-in templates. */
import { statSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { checkInside } from '../../adapters/source.js';
import { AppError } from '../../errors.js';
import { readRegular } from '../../regular-file.js';
import type { WorkflowDefinition } from './definition.js';
import type { WorkflowSource } from './types.js';

const FILES = ['workflow.json', 'workflow.yml', 'workflow.yaml'];
const MAX_BYTES = 4 * 1024 * 1024;

/**
 * Reads a definition.
 * @param roots folders that files may be read from; undefined = anywhere, for what the server is started with
 * @throws AppError WORKFLOW_INVALID, MODEL_SOURCE_INVALID (no such file), MODEL_SOURCE_FORBIDDEN, INVALID_REQUEST
 */
export async function readDefinition(
  source: WorkflowSource,
  roots: readonly string[] | undefined,
): Promise<WorkflowDefinition> {
  switch (source.kind) {
    case 'text':
      return parse(source.text, 'the definition');
    case 'template':
      return fromTemplate(source.template, source.parameters);
    case 'url': {
      const file = await definitionFile(source.url, roots);
      if (file === undefined) {
        const what = `${JSON.stringify(source.url)} holds no workflow (${FILES.join(', ')})`;
        throw new AppError('MODEL_SOURCE_INVALID', what);
      }
      const { size } = await stat(file);
      if (size > MAX_BYTES) throw new AppError('WORKFLOW_INVALID', `${file}: ${size} bytes; at most ${MAX_BYTES}`);
      return parse((await readRegular(file)).toString(), file, dirname(file));
    }
  }
}

/** Few servers have workflows: only those load the library that reads YAML. */
async function parse(text: string, origin: string, dir?: string): Promise<WorkflowDefinition> {
  const { parseDefinition } = await import('./definition.js');
  return parseDefinition(text, origin, dir);
}

/**
 * The definition's file at a url: the file itself, or the one in a folder; undefined for a folder without one, and for
 * what is no file of a definition.
 * @throws AppError MODEL_SOURCE_INVALID, MODEL_SOURCE_FORBIDDEN
 */
export async function definitionFile(url: string, roots: readonly string[] | undefined): Promise<string | undefined> {
  const path = urlPath(url);
  const real = roots === undefined ? path : await inside(path, roots);
  const found = await stat(real).catch(() => undefined);
  if (found === undefined) throw new AppError('MODEL_SOURCE_INVALID', `${JSON.stringify(url)} does not exist`);
  if (found.isFile()) return /\.(json|ya?ml)$/i.test(real) ? real : undefined;
  for (const name of FILES) {
    const file = join(real, name);
    const there = await stat(file).catch(() => undefined);
    // The file may be a link to somewhere else.
    if (there?.isFile()) return roots === undefined ? file : inside(file, roots);
  }
  return undefined;
}

/** True for a folder that holds a definition, and for a file that may be one. */
export function isDefinition(place: string): boolean {
  const file = (path: string) => statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;
  return FILES.some((name) => file(join(place, name))) || (/\.(json|ya?ml)$/i.test(place) && file(place));
}

/** The absolute path of a `file:` URI or path. Throws MODEL_SOURCE_INVALID for anything else. */
function urlPath(url: string): string {
  const fail = (what: string) => new AppError('MODEL_SOURCE_INVALID', `url ${JSON.stringify(url)}: ${what}`);
  if (url === '' || url.includes('\0')) throw fail('it is no path');
  if (/^file:/i.test(url)) {
    try {
      return resolve(fileURLToPath(url));
    } catch (error) {
      throw fail(`not a usable file URI: ${(error as Error).message}`);
    }
  }
  if (/^[a-z][a-z0-9+.-]+:\/\//i.test(url)) throw fail('only files can be read here');
  if (!isAbsolute(url)) throw fail('it must be an absolute path or a file: URI');
  return resolve(url);
}

/** As {@link checkInside}, with the reasons of models and workflows. */
export async function inside(path: string, roots: readonly string[]): Promise<string> {
  try {
    return await checkInside(path, roots);
  } catch (thrown) {
    const error = AppError.from(thrown);
    if (error.reason === 'ADAPTER_SOURCE_FORBIDDEN') {
      throw new AppError(
        'MODEL_SOURCE_FORBIDDEN',
        `${JSON.stringify(path)} lies outside the folders that models and workflows may be registered from (--allow-path)`,
        { cause: thrown },
      );
    }
    throw new AppError('MODEL_SOURCE_INVALID', error.message, { cause: thrown });
  }
}

/** Parameters of the template `adapter` that must be there. */
const ADAPTER_PARAMETERS = ['adapter', 'url', 'model'];
/** Parameters that other registrations have, and this one has not. */
const TEMPLATE_STRAYS = ['name', 'src', 'model_name', 'weight', 'weights'];

/** `template=adapter`: a workflow named as its adapter, over one model with the local name `m`. */
async function fromTemplate(
  template: string,
  parameters: Readonly<Record<string, string>>,
): Promise<WorkflowDefinition> {
  if (template !== 'adapter') {
    throw new AppError('MODEL_SOURCE_INVALID', `there is no template ${JSON.stringify(template)}; known: adapter`);
  }
  const missing = ADAPTER_PARAMETERS.filter((name) => !parameters[name]);
  if (missing.length > 0) {
    throw new AppError('INVALID_REQUEST', `the template adapter needs ${missing.join(', ')}`, {
      violations: missing.map((field) => ({ field, description: 'is missing' })),
    });
  }
  const { adapter, url, model, version, ...options } = parameters as Record<'adapter' | 'url' | 'model', string> &
    Record<string, string | undefined>;
  // Kept as options of the adapter they would change nothing that answers.
  const unread = TEMPLATE_STRAYS.find((name) => options[name] !== undefined);
  if (unread !== undefined) {
    const description = `is no parameter of the template adapter; there are ${ADAPTER_PARAMETERS.join(', ')}, version, pin, preload and options of the adapter`;
    throw new AppError('INVALID_REQUEST', `${unread} ${description}`, { violations: [{ field: unread, description }] });
  }
  const definition = {
    name: adapter,
    version: version ?? '0.1',
    models: { m: model },
    configs: { adapters: { [adapter]: { model: 'm', src: url, options } } },
    workflow: { out: ['adapter', adapter, 'in'] },
  };
  return parse(JSON.stringify(definition), 'the template adapter');
}
