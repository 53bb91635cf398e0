import { type DescFile, type DescService, toBinary } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import { Code } from '@connectrpc/connect';
import type { ServerReflectionRequest as RequestV1 } from '../../gen/grpc/reflection/v1/reflection_pb.js';
import type { ServerReflectionRequest as RequestV1Alpha } from '../../gen/grpc/reflection/v1alpha/reflection_pb.js';
import { SCHEMA } from './schema.js';

/** Both versions of the protocol have the same messages under different names. */
type ReflectionRequest = RequestV1 | RequestV1Alpha;

type Answer =
  | { case: 'fileDescriptorResponse'; value: { fileDescriptorProto: Uint8Array[] } }
  | { case: 'allExtensionNumbersResponse'; value: { baseTypeName: string; extensionNumber: number[] } }
  | { case: 'listServicesResponse'; value: { service: { name: string }[] } }
  | { case: 'errorResponse'; value: { errorCode: number; errorMessage: string } };

const notFound = (what: string): Answer => ({
  case: 'errorResponse',
  value: { errorCode: Code.NotFound, errorMessage: `${what} not found` },
});

/** The given files and what they import, ours with their comments; imports before the files that need them. */
function collect(roots: readonly DescFile[]): Map<string, DescFile> {
  const files = new Map<string, DescFile>();
  const add = (file: DescFile): void => {
    const best = SCHEMA.getFile(`${file.name}.proto`) ?? file;
    if (files.has(best.proto.name)) return;
    for (const dependency of best.dependencies) add(dependency);
    files.set(best.proto.name, best);
  };
  for (const root of roots) add(root);
  return files;
}

function* names(types: DescFile | DescFile['messages'][number]): Generator<string> {
  for (const message of 'messages' in types ? types.messages : types.nestedMessages) {
    yield message.typeName;
    for (const field of message.fields) yield `${message.typeName}.${field.name}`;
    yield* names(message);
  }
  for (const enumeration of 'enums' in types ? types.enums : types.nestedEnums) yield enumeration.typeName;
  for (const extension of 'extensions' in types ? types.extensions : types.nestedExtensions) yield extension.typeName;
  if (!('services' in types)) return;
  for (const service of types.services) {
    yield service.typeName;
    for (const method of service.methods) yield `${service.typeName}.${method.name}`;
  }
}

function* extensionsOf(types: DescFile | DescFile['messages'][number]): Generator<DescFile['extensions'][number]> {
  yield* 'extensions' in types ? types.extensions : types.nestedExtensions;
  for (const message of 'messages' in types ? types.messages : types.nestedMessages) yield* extensionsOf(message);
}

/**
 * Answers server reflection for the given services (https://github.com/grpc/grpc/blob/master/doc/server-reflection.md),
 * so that clients such as grpcurl need no schema files.
 *
 * @param details further files that can be asked for: the details of errors, which no service mentions
 * @param draining ends open streams when it aborts
 */
export function reflectionRpc(services: readonly DescService[], details: readonly DescFile[], draining: AbortSignal) {
  const files = collect([...services.map(({ file }) => file), ...details]);
  const bySymbol = new Map<string, DescFile>();
  const extensions = [...files.values()].flatMap((file) => [...extensionsOf(file)]);
  for (const file of files.values()) for (const name of names(file)) bySymbol.set(name, file);

  const withImports = (file: DescFile | undefined, what: string): Answer => {
    if (file === undefined) return notFound(what);
    const wanted = new Map<string, DescFile>();
    const add = (one: DescFile): void => {
      const best = files.get(one.proto.name) ?? one;
      if (wanted.has(best.proto.name)) return;
      wanted.set(best.proto.name, best);
      for (const dependency of best.dependencies) add(dependency);
    };
    add(file);
    const fileDescriptorProto = [...wanted.values()].map(({ proto }) => toBinary(FileDescriptorProtoSchema, proto));
    return { case: 'fileDescriptorResponse', value: { fileDescriptorProto } };
  };

  const answer = (request: ReflectionRequest['messageRequest']): Answer => {
    switch (request.case) {
      case 'listServices':
        return { case: 'listServicesResponse', value: { service: services.map(({ typeName: name }) => ({ name })) } };
      case 'fileByFilename':
        return withImports(files.get(request.value), `file ${request.value}`);
      case 'fileContainingSymbol':
        return withImports(bySymbol.get(request.value), `symbol ${request.value}`);
      case 'fileContainingExtension': {
        const { containingType, extensionNumber } = request.value;
        const found = extensions.find((e) => e.extendee.typeName === containingType && e.number === extensionNumber);
        return withImports(found?.file, `extension ${extensionNumber} of ${containingType}`);
      }
      case 'allExtensionNumbersOfType': {
        if (!bySymbol.has(request.value)) return notFound(`type ${request.value}`);
        const extensionNumber = extensions.filter((e) => e.extendee.typeName === request.value).map((e) => e.number);
        return { case: 'allExtensionNumbersResponse', value: { baseTypeName: request.value, extensionNumber } };
      }
      default:
        return {
          case: 'errorResponse',
          value: { errorCode: Code.InvalidArgument, errorMessage: 'the request asks for nothing' },
        };
    }
  };

  return {
    async *serverReflectionInfo<T extends ReflectionRequest>(requests: AsyncIterable<T>) {
      const iterator = requests[Symbol.asyncIterator]();
      let end = (): void => {};
      const drained = new Promise<IteratorReturnResult<undefined>>((resolve) => {
        end = () => resolve({ done: true, value: undefined });
      });
      if (draining.aborted) end();
      else draining.addEventListener('abort', end);
      try {
        for (;;) {
          const next = await Promise.race([iterator.next(), drained]);
          if (next.done) return;
          const request: ReflectionRequest = next.value;
          yield {
            validHost: request.host,
            originalRequest: request as T,
            messageResponse: answer(request.messageRequest),
          };
        }
      } finally {
        // The signal lives as long as the server: a stream that ended must not stay with it.
        draining.removeEventListener('abort', end);
      }
    },
  };
}
