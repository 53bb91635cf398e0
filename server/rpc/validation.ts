import type { DescMessage, DescOneof, Message } from '@bufbuild/protobuf';
import { pathToString } from '@bufbuild/protobuf/reflect';
import { createValidator, type Violation } from '@bufbuild/protovalidate';
import { AppError, type FieldViolation } from '../errors.js';
import { SCHEMA } from './schema.js';
import { unknownFields } from './unknown-fields.js';

const validator = createValidator();

/** More broken fields than this are counted, not listed: errors travel in headers. */
const MAX_LISTED = 8;

/** How the library tells that there is nothing where something must be. */
const EMPTY = /^must (contain at least 1 item\(s\)|be at least 1 characters)$/;

function describe(violation: Violation): FieldViolation {
  const last = violation.field.at(-1);
  const field = pathToString(violation.field) + (violation.forKey ? ' (key)' : '');
  if (violation.ruleId === 'required' && last?.kind === 'oneof') {
    return { field, description: `must be given: one of ${oneofNames(last)}` };
  }
  return { field, description: EMPTY.test(violation.message) ? 'must not be empty' : violation.message };
}

const oneofNames = (oneof: DescOneof): string => oneof.fields.map((field) => field.name).join(', ');

/**
 * Checks a request against the rules of the schema, and that it has no fields but those of the schema.
 *
 * @throws AppError INVALID_REQUEST with a violation for every broken field
 */
export function assertValid(message: Message): void {
  const desc: DescMessage | undefined = SCHEMA.getMessage(message.$typeName);
  if (desc === undefined)
    throw new AppError('INTERNAL', 'internal error', { cause: `${message.$typeName} is unknown` });
  const result = validator.validate(desc, message);
  if (result.kind === 'error') throw new AppError('INTERNAL', 'internal error', { cause: result.error });
  const all = [...unknownFields(desc, message), ...(result.violations ?? []).map(describe)];
  if (all.length === 0) return;
  const violations = all.slice(0, MAX_LISTED);
  const more = all.length - violations.length;
  const text = violations.map(({ field, description }) => `${field}: ${description}`).join('; ');
  throw new AppError('INVALID_REQUEST', `invalid request: ${text}${more > 0 ? `; and ${more} more` : ''}`, {
    violations,
  });
}
