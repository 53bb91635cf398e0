/** `text/csv` bodies: a header row and one row per input, read into the request object that says the same. */
import { CsvError, parse } from 'csv-parse/sync';
import { AppError } from '../errors.js';

/**
 * @returns `{inputs: [...]}`, with `adapters` where there is such a column; further columns stay under their names, so
 *   that they are told as ignored
 * @throws AppError INVALID_REQUEST: broken CSV, no column `inputs`, no row
 */
export function readCsv(text: string): Record<string, unknown> {
  let rows: string[][];
  try {
    rows = parse(text, { bom: true, skip_empty_lines: true });
  } catch (cause) {
    if (!(cause instanceof CsvError)) throw cause;
    throw new AppError('INVALID_REQUEST', `the body is not valid CSV: ${cause.message}`, { cause });
  }
  const [header = [], ...records] = rows;
  const names = header.map((name) => name.trim());
  if (!names.includes('inputs')) {
    throw new AppError('INVALID_REQUEST', 'the first line of the CSV must name its columns, one of them inputs');
  }
  if (records.length === 0) throw new AppError('INVALID_REQUEST', 'the CSV has no row after its header');
  const twice = names.find((name, at) => names.indexOf(name) !== at);
  if (twice !== undefined) throw new AppError('INVALID_REQUEST', `the CSV names the column ${twice} twice`);
  if (names.includes('adapter') && names.includes('adapters')) {
    throw new AppError('INVALID_REQUEST', 'the CSV names the column adapters twice, once as adapter');
  }
  return Object.fromEntries(
    names.map((name, at) => [name === 'adapter' ? 'adapters' : name, records.map((record) => record[at]!)]),
  );
}
