import { createFileRegistry, type DescFile, type FileRegistry, fromBinary } from '@bufbuild/protobuf';
import {
  FileDescriptorSetSchema,
  file_google_protobuf_field_mask,
  file_google_protobuf_struct,
  file_google_protobuf_timestamp,
} from '@bufbuild/protobuf/wkt';
import { file_buf_validate_validate } from '@bufbuild/protovalidate/gen/buf/validate/validate_pb.js';
import { SCHEMA_BASE64 } from '../../gen/schema.js';

const IMPORTS: Readonly<Record<string, DescFile>> = {
  'buf/validate/validate.proto': file_buf_validate_validate,
  'google/protobuf/field_mask.proto': file_google_protobuf_field_mask,
  'google/protobuf/struct.proto': file_google_protobuf_struct,
  'google/protobuf/timestamp.proto': file_google_protobuf_timestamp,
};

function load(): FileRegistry {
  const set = fromBinary(FileDescriptorSetSchema, Buffer.from(SCHEMA_BASE64, 'base64'));
  return createFileRegistry(...set.file.map((file) => createFileRegistry(file, (name) => IMPORTS[name])));
}

/**
 * Our own files as they were written, with comments and validation rules. The generated messages have neither, so
 * that clients stay small; the names of messages and fields are the same.
 */
export const SCHEMA: FileRegistry = load();
