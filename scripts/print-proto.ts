import type {
  DescriptorProto,
  EnumDescriptorProto,
  FieldDescriptorProto,
  FileDescriptorProto,
} from '@bufbuild/protobuf/wkt';

const SCALARS: Readonly<Record<number, string>> = {
  1: 'double',
  2: 'float',
  3: 'int64',
  4: 'uint64',
  5: 'int32',
  6: 'fixed64',
  7: 'fixed32',
  8: 'bool',
  9: 'string',
  12: 'bytes',
  13: 'uint32',
  15: 'sfixed32',
  16: 'sfixed64',
  17: 'sint32',
  18: 'sint64',
};
const LABELS: Readonly<Record<number, string>> = { 1: 'optional ', 2: 'required ', 3: 'repeated ' };
const MAX_FIELD_NUMBER = 536_870_911;

const indent = (lines: readonly string[]): string[] => lines.map((line) => `  ${line}`);
const block = (head: string, body: readonly string[]): string[] => [`${head} {`, ...indent(body), '}'];

const field = (f: FieldDescriptorProto, labelled = true): string =>
  `${labelled ? (LABELS[f.label] ?? '') : ''}${SCALARS[f.type] ?? f.typeName} ${f.name} = ${f.number};`;

function extensions(fields: readonly FieldDescriptorProto[]): string[] {
  return fields.flatMap((f) => block(`extend ${f.extendee}`, [field(f)]));
}

function enumeration(e: EnumDescriptorProto): string[] {
  return block(
    `enum ${e.name}`,
    e.value.map((v) => `${v.name} = ${v.number};`),
  );
}

function message(m: DescriptorProto): string[] {
  return block(`message ${m.name}`, [
    ...m.enumType.flatMap(enumeration),
    ...m.nestedType.flatMap(message),
    ...m.field.filter((f) => !has(f)).map((f) => field(f)),
    ...m.oneofDecl.flatMap((oneof, index) =>
      block(
        `oneof ${oneof.name}`,
        m.field.filter((f) => has(f) && f.oneofIndex === index).map((f) => field(f, false)),
      ),
    ),
    ...m.extensionRange.map(
      ({ start, end }) => `extensions ${start} to ${end - 1 >= MAX_FIELD_NUMBER ? 'max' : end - 1};`,
    ),
    ...extensions(m.extension),
  ]);
}

/** proto2 fields have presence, so a oneof index of 0 is told from an absent one by the message itself. */
const has = (f: FieldDescriptorProto): boolean => Object.hasOwn(f, 'oneofIndex');

/**
 * Prints a proto2 file as source that declares the same messages, enums and extensions. Options are left out: it is
 * enough to compile files that import it, no more.
 */
export function printProto(file: FileDescriptorProto): string {
  return [
    'syntax = "proto2";',
    `package ${file.package};`,
    ...file.dependency.map((path) => `import "${path}";`),
    ...file.enumType.flatMap(enumeration),
    ...file.messageType.flatMap(message),
    ...extensions(file.extension),
    '',
  ].join('\n');
}
