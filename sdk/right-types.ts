/**
 * Values of other types than the fields that they are given for. The binary form of messages takes most of them, as
 * something else: a list of content parts is the text "[object Object]", and the text "false" is true.
 */
import { create, type DescField, type DescMessage, type MessageInitShape, ScalarType } from '@bufbuild/protobuf';
import { isFieldError, type ReflectMessage, reflect } from '@bufbuild/protobuf/reflect';
import { Code, ConnectError, type Transport } from '@connectrpc/connect';

/** The same transport for messages whose values have the types of their fields; others end in an invalid request. */
export function ofRightTypes(transport: Transport): Transport {
  return {
    async unary(method, signal, timeoutMs, header, input, contextValues) {
      return transport.unary(method, signal, timeoutMs, header, checked(method.input, input), contextValues);
    },
    async stream(method, signal, timeoutMs, header, input, contextValues) {
      // Every stream of the schema has one request: what is wrong with it is told before there is a connection.
      const messages: MessageInitShape<typeof method.input>[] = [];
      for await (const message of input) messages.push(checked(method.input, message));
      return transport.stream(method, signal, timeoutMs, header, each(messages), contextValues);
    },
  };
}

async function* each<T>(items: readonly T[]): AsyncGenerator<T> {
  yield* items;
}

function checked<I extends DescMessage>(schema: I, input: MessageInitShape<I>): MessageInitShape<I> {
  const message = create(schema, input);
  refuseWrongTypes(reflect(schema, message), '');
  return message;
}

function refuseWrongTypes(message: ReflectMessage, prefix: string): void {
  for (const field of message.fields) {
    if (!message.isSet(field)) continue;
    const path = prefix + field.localName;
    try {
      refuseWrongType(message, field, path);
    } catch (thrown) {
      if (!isFieldError(thrown)) throw thrown;
      throw new ConnectError(`${path}: ${thrown.message}`, Code.InvalidArgument);
    }
  }
}

/** Setting a value to what it is makes the library check it. */
function refuseWrongType(message: ReflectMessage, field: DescField, path: string): void {
  if (field.fieldKind === 'message') {
    refuseWrongTypes(message.get(field), `${path}.`);
  } else if (field.fieldKind === 'list') {
    const list = message.get(field);
    for (const [at, item] of [...list].entries()) {
      if (field.listKind === 'message') refuseWrongTypes(item as ReflectMessage, `${path}[${at}].`);
      else if (!isText(field.scalar, item)) list.set(at, item);
    }
  } else if (field.fieldKind === 'map') {
    const map = message.get(field);
    for (const [key, value] of [...map]) if (!isText(field.scalar, value)) map.set(key, value);
  } else {
    const value = message.get(field);
    if (!isText(field.scalar, value)) message.set(field, value);
  }
}

/** Any text may be sent: half of a surrogate pair in it is the server's to judge. */
const isText = (type: ScalarType | undefined, value: unknown): boolean =>
  type === ScalarType.STRING && typeof value === 'string';
