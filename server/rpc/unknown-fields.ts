/**
 * Fields that a binary message has and our schema has not: those of a newer client. Protocol buffers would pass over them;
 * but one may name an adapter, and the answer would come from the base without a word. JSON of Connect refuses them, too.
 */
import { type DescField, type DescMessage, isMessage, type Message } from '@bufbuild/protobuf';
import type { FieldViolation } from '../errors.js';

/** A violation for every field of the message, or of messages in it, that the schema does not have. */
export function* unknownFields(desc: DescMessage, message: Message, path = ''): Generator<FieldViolation> {
  const prefix = path && `${path}.`;
  for (const no of new Set(message.$unknown?.map((field) => field.no))) {
    const description = `is no field of ${desc.typeName} on this server; it would be ignored, whatever it asks for`;
    yield { field: `${prefix}#${no}`, description };
  }
  for (const field of desc.fields) {
    if (field.message === undefined) continue;
    for (const [key, value] of valuesOf(field, message)) {
      // Well-known types are plain values here.
      if (isMessage(value)) yield* unknownFields(field.message, value, `${prefix}${field.name}${key}`);
    }
  }
}

function valuesOf(field: DescField, message: Message): Iterable<readonly [string, unknown]> {
  const fields = message as unknown as Readonly<Record<string, unknown>>;
  if (field.oneof !== undefined) {
    const chosen = fields[field.oneof.localName] as { case?: string; value?: unknown };
    return chosen.case === field.localName ? [['', chosen.value]] : [];
  }
  const value = fields[field.localName];
  if (field.fieldKind === 'list') return (value as unknown[]).map((one, i) => [`[${i}]`, one] as const);
  if (field.fieldKind === 'map')
    return Object.entries(value as object).map(([key, one]) => [`[${JSON.stringify(key)}]`, one] as const);
  return [['', value]];
}
