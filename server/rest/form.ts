/** Form bodies: `application/x-www-form-urlencoded` and `multipart/form-data`, as a list of fields. */
import { Busboy } from '@fastify/busboy';
import { AppError } from '../errors.js';

/** One field of a form, in the order sent. */
export interface FormField {
  readonly name: string;
  readonly value: Buffer;
  /** The part's own content type, lower case, without parameters; '' where it has none. */
  readonly type: string;
}

/** Fields of one form; a form that needs more is none that this server answers. */
const MAX_FIELDS = 256;

/** True for the two form types. `type` is lower case, without parameters. */
export function isFormType(type: string): boolean {
  return type === 'application/x-www-form-urlencoded' || type === 'multipart/form-data';
}

/**
 * Reads a form. Files count as fields under their field's name.
 * @param raw the whole body, already within the limit of its size
 * @param contentType the header as sent: multipart needs its boundary
 * @throws AppError INVALID_REQUEST where the form is broken
 */
export async function readForm(raw: Buffer, contentType: string): Promise<readonly FormField[]> {
  if (!/^multipart\//i.test(contentType.trim())) return urlEncoded(raw);
  const fields: FormField[] = [];
  try {
    await new Promise<void>((resolve, reject) => {
      const limits = { fieldSize: raw.length, fileSize: raw.length, parts: MAX_FIELDS + 1 };
      const parser = new Busboy({ headers: { 'content-type': contentType }, limits });
      parser.on('field', (name, value, _nameCut, _valueCut, _encoding, type) => {
        // busboy puts this character for bytes that are no text.
        if (value.includes('\u{fffd}') && !raw.includes('\u{fffd}')) reject(new Error(`${name} is not valid UTF-8`));
        fields.push({ name, value: Buffer.from(value), type: plainType(type) });
      });
      parser.on('file', (name, stream, _file, _encoding, type) => {
        const chunks: Buffer[] = [];
        stream.on('data', (chunk: Buffer) => chunks.push(chunk));
        stream.on('end', () => fields.push({ name, value: Buffer.concat(chunks), type: plainType(type) }));
        stream.on('error', reject);
      });
      parser.on('finish', resolve);
      parser.on('error', reject);
      parser.end(raw);
    });
  } catch (cause) {
    throw new AppError('INVALID_REQUEST', `the multipart body is broken: ${(cause as Error).message}`, { cause });
  }
  return bounded(fields);
}

function urlEncoded(raw: Buffer): readonly FormField[] {
  // Latin-1 keeps every byte as it is; URLSearchParams would replace those that are no UTF-8.
  const pairs = raw
    .toString('latin1')
    .split('&')
    .filter((pair) => pair !== '');
  const byte = (_: string, hex: string): string => String.fromCharCode(Number.parseInt(hex, 16));
  const decoded = (text: string): Buffer =>
    Buffer.from(text.replaceAll('+', ' ').replace(/%([0-9a-f]{2})/gi, byte), 'latin1');
  return bounded(
    pairs.map((pair) => {
      const at = pair.indexOf('=');
      const name = at < 0 ? pair : pair.slice(0, at);
      return { name: decoded(name).toString('utf8'), value: decoded(at < 0 ? '' : pair.slice(at + 1)), type: '' };
    }),
  );
}

function bounded(fields: readonly FormField[]): readonly FormField[] {
  if (fields.length <= MAX_FIELDS) return fields;
  throw new AppError('INVALID_REQUEST', `the form has more than ${MAX_FIELDS} fields`);
}

/** busboy calls a part without a type `text/plain`, which is also what a plain field is. */
function plainType(type: string): string {
  const plain = type.split(';', 1)[0]!.trim().toLowerCase();
  return plain === 'text/plain' ? '' : plain;
}
